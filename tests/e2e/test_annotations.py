"""Annotations at every level, as docker's buildx has them, read back by skopeo and from the layout."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Pybuild, write_context

TWO = "--platform=linux/amd64,linux/arm64"
OF_ALL = (
    "a=b", "manifest,index:both=1", "manifest[linux/arm64]:a=arm", "manifest-descriptor:entry=all",
    "manifest-descriptor[arm64]:entry=arm", "index-descriptor:top=t",
)  # fmt: skip


def raw(layout: Path, *options: str) -> dict[str, Any]:
    done = subprocess.run(["skopeo", "inspect", "--raw", *options, f"oci:{layout}"], capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def blob(layout: Path, digest: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((layout / "blobs" / digest.replace(":", "/")).read_bytes())
    return found


def test_every_level_of_an_index(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "c", "FROM scratch\nCOPY f /\n", f="x")
    output = f"type=oci,dest={tmp_path}/l,tar=false,annotation-index.own=O,annotation[linux/amd64].Own=amd"
    pybuild(TWO, *(f"--annotation={text}" for text in OF_ALL), "-t", "app", "-o", output, context)
    layout = tmp_path / "l"
    top = json.loads((layout / "index.json").read_bytes())["manifests"][0]
    assert top["annotations"] == {
        "top": "t", "io.containerd.image.name": "docker.io/library/app:latest", "org.opencontainers.image.ref.name": "latest",
    }  # fmt: skip
    index = raw(layout)
    assert index["annotations"] == {"both": "1", "own": "O"}
    assert [entry["annotations"] for entry in index["manifests"]] == [{"entry": "all"}, {"entry": "arm"}]
    manifests = [blob(layout, entry["digest"])["annotations"] for entry in index["manifests"]]
    assert manifests == [{"a": "b", "both": "1", "Own": "amd"}, {"a": "arm", "both": "1"}]
    output = f"type=oci,dest={tmp_path}/e,tar=false,annotation.late=1"
    pybuild("export", "--platform=linux/amd64", "app", "-o", output)
    assert raw(tmp_path / "e")["annotations"] == {"a": "b", "both": "1", "late": "1"}  # `Own` is of the other output


def test_an_image_for_one_platform(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "c", "FROM scratch\nCOPY f /\n", f="x")
    output = f"type=oci,dest={tmp_path}/l,tar=false,annotation-manifest-descriptor.e=1"
    pybuild("--annotation=k=v:w=x", "-o", output, context)
    assert raw(tmp_path / "l")["annotations"] == {"k": "v:w=x"}
    assert json.loads((tmp_path / "l/index.json").read_bytes())["manifests"][0]["annotations"] == {"e": "1"}


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--annotation=index:a=b"], 1, "--annotation index:a: an image for one platform has no index"),
        (["--annotation=manifest[linux/s390x]:a=b"], 1, "manifest[linux/s390x]:a: the image is for linux/amd64"),
        (["--annotation=layer:a=b"], 2, "--annotation layer:a=b: unknown level 'layer'; it can be manifest, index"),
        (["--annotation=index[linux/amd64]:a=b"], 2, "index is that of all platforms: leave out [linux/amd64]"),
        (["--annotation=manifest[a/b/c/d]:a=b"], 2, "invalid platform 'a/b/c/d'"),
        (["--annotation=a"], 2, "--annotation a: expected KEY=VALUE"),
        (["--annotation=manifest:=b"], 2, "expected KEY=VALUE"),
        (["--annotation=Man ifest:a=b"], 2, "expected LEVEL: or LEVEL[PLATFORM]: before the key"),
        (["-otype=oci,dest=x,annotation-index.a=b"], 1, "annotation index:a: an image for one platform has no index"),
        (["-otype=oci,dest=x,annotations=b"], 2, "annotations: expected annotation.KEY=VALUE"),
        (["-otype=tar,dest=x,annotation.a=b"], 2, "type=tar writes files, and no manifest"),
    ],
)  # fmt: skip
def test_what_cannot_be_annotated(pybuild: Pybuild, tmp_path: Path, arguments: list[str], status: int, said: str) -> None:
    context = write_context(tmp_path / "c", "FROM scratch\nCOPY f /\n", f="x")
    assert said in pybuild.refused(*arguments, context, status=status, cwd=tmp_path)
