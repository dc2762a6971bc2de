"""pybuild index, and indexes on their way between the store, archives and a registry."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.cli import Pybuild, write_context
from tests.support.registry import DockerRegistry, docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AMD, ARM, RISCV = "linux/amd64", "linux/arm64", "linux/riscv64"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def context(tmp_path: Path) -> Path:
    text = "FROM scratch\nARG TARGETARCH\nCOPY only.$TARGETARCH /only\n"
    return write_context(tmp_path / "c", text, **{f"only.{name}": name for name in ("amd64", "arm64", "riscv64")})


def empty(tmp_path: Path, name: str) -> Pybuild:
    return Pybuild(tmp_path / name, {"HOME": str(tmp_path)})


def shown(pybuild: Pybuild, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(pybuild("index", "inspect", name).out)
    return found


def platforms(pybuild: Pybuild, name: str) -> list[str]:
    return [image["platform"] for image in shown(pybuild, name)["images"]]


def test_images_of_several_machines_become_one(tmp_path: Path, registry: DockerRegistry, context: Path) -> None:
    """One image in the store, one in an archive, one in a registry: the index is pushed, and others read it."""
    here, name = empty(tmp_path, "store"), f"{registry.host}/team/put-together"
    here("-q", "--platform", AMD, "-t", "amd", context)
    empty(tmp_path, "b")("-q", "--platform", ARM, "-t", "arm", "-o", f"type=oci,dest={tmp_path}/arm.tar", context)
    empty(tmp_path, "third")("-q", "--platform", RISCV, "-t", f"{name}:riscv64", "--push", context)
    made = here(
        "index", "create", "-q", "--annotation", "a=b", "--push", f"{name}:1", "amd", f"oci-archive:{tmp_path}/arm.tar"
    )
    assert platforms(here, f"{name}:1") == [AMD, ARM]
    added = here("index", "add", "-q", "--push", f"{name}:1", f"docker://{name}:riscv64").out.strip()
    assert added != made.out.strip()
    raw = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{name}:1"], check=True, capture_output=True
    ).stdout
    assert raw.decode() == here("index", "inspect", "--raw", f"{name}:1").out
    assert json.loads(raw)["annotations"] == {"a": "b"}
    other = empty(tmp_path, "d")
    assert other("pull", "-q", "--all-platforms", f"{name}:1").out.strip() == added
    assert platforms(other, f"{name}:1") == platforms(other, f"docker://{name}:1") == [AMD, ARM, RISCV]
    other("export", f"{name}:1", "--platform", RISCV, "-o", tmp_path / "files")
    assert (tmp_path / "files/only").read_text() == "riscv64"
    one = empty(tmp_path, "e")("pull", "-q", "--platform", ARM, f"{name}:1").out.strip()
    assert one == shown(here, f"{name}:1")["images"][1]["digest"]
    for store in (here, other):
        store.assert_whole()


def test_add_replaces_and_rm_removes(tmp_path: Path, context: Path) -> None:
    here = empty(tmp_path, "store")
    here("-q", f"--platform={AMD},{ARM}", "-t", "app", context)
    here("-q", "--platform", ARM, "--label", "x=y", "-t", "new", context)
    assert "two different images are for linux/arm64" in here.refused("index", "create", "both", "app", "new")
    here("index", "add", "app", "new")
    assert shown(here, "app")["images"][1]["digest"] == json.loads(here("inspect", "new").out)["digest"]
    assert platforms(here, "app") == [AMD, ARM]
    here("index", "rm", "app", AMD)
    assert platforms(here, "app") == [ARM]
    assert "has no image linux/amd64" in here.refused("index", "rm", "app", AMD)
    for text in ("sha256:", "sha256:" + shown(here, "app")["images"][0]["digest"][7:10]):
        assert f"has no image {text}" in here.refused("index", "rm", "app", text)
    assert "no image would be left" in here.refused(
        "index", "rm", "app", shown(here, "app")["images"][0]["digest"][:20]
    )
    for digest in ("a" * 64, "sha256:" + "a" * 64):
        assert f"no image sha256:{'a' * 64} in the store" in here.refused("index", "inspect", digest)
    assert "is one image, not an index" in here.refused("index", "inspect", "new")
    assert "there is no image for linux/riscv64" in here.refused("index", "create", "--platform", RISCV, "x", "app")
    here.assert_whole()


def test_one_name_stands_for_all_and_a_removed_index_is_gone(tmp_path: Path, context: Path) -> None:
    here = empty(tmp_path, "store")
    digest = here("-q", f"--platform={AMD},{ARM}", "-t", "app", context).out.strip()
    here("tag", "app", "other")
    lines = here("images").out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["app:latest", AMD, ARM, "other:latest", AMD, ARM]
    here("export", "app", "-o", f"type=oci,dest={tmp_path}/app.tar")
    here("rmi", "app")
    assert shown(here, "other")["digest"] == shown(here, digest)["digest"] == digest
    here("rmi", digest)
    assert here("images").out.splitlines()[1:] == []
    here("gc", "--all")
    assert list((here.root / "blobs/sha256").iterdir()) == []
    assert here("import", "--all-platforms", tmp_path / "app.tar", "again").out.strip() == digest
    assert here("import", tmp_path / "app.tar", "one").out.strip() == shown(here, "again")["images"][0]["digest"]
    here.assert_whole()


def test_a_name_that_got_one_image_after_the_other_can_be_sent_whole(
    tmp_path: Path, registry: DockerRegistry, context: Path
) -> None:
    here, name = empty(tmp_path, "store"), f"{registry.host}/team/apart:1"
    for platform in (AMD, ARM):
        here("-q", "--platform", platform, "-t", name, context)
    here("gc")
    index = here("push", "-q", "--all-platforms", name).out.strip()
    assert index == shown(here, name)["digest"] == shown(here, f"docker://{name}")["digest"]
    assert here("push", "-q", name).out.strip() == shown(here, name)["images"][1]["digest"]  # the newest
    here.assert_whole()


def test_a_copy_keeps_an_index_and_the_store_leaves_attestations_out(
    tmp_path: Path, registry: DockerRegistry, context: Path
) -> None:
    here, name = empty(tmp_path, "store"), f"{registry.host}/team/copied:1"
    digest = here("-q", f"--platform={AMD},{ARM}", "-t", "app", context).out.strip()
    assert here("copy", "-q", "store:app", f"docker://{name}").out.strip() == digest
    assert here("copy", "-q", f"docker://{name}", f"oci:{tmp_path}/lay:x").out.strip() == digest
    other = empty(tmp_path, "other")
    other("copy", "-q", f"oci:{tmp_path}/lay:x", "store:mine")
    assert shown(other, "mine")["digest"] == digest
    assert here("copy", "-q", "store:app", f"docker-archive:{tmp_path}/d.tar").err == ""
    other.assert_whole()


def test_images_that_are_added_at_once_are_all_there(tmp_path: Path, context: Path) -> None:
    here = empty(tmp_path, "store")
    for platform in (AMD, ARM, RISCV):
        here("-q", "--platform", platform, "-t", platform.rpartition("/")[2], context)
    here("index", "create", "-q", "all:1", "amd64")
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: here("index", "add", "-q", "all:1", name), ("arm64", "riscv64")))
    assert sorted(platforms(here, "all:1")) == [AMD, ARM, RISCV]


def test_all_images_of_an_archive_are_not_exported(tmp_path: Path, context: Path) -> None:
    here, archive = empty(tmp_path, "store"), tmp_path / "a.tar"
    here("-q", "--platform", f"{AMD},{ARM}", "-o", f"type=oci,dest={archive}", context)
    said = here.refused("export", f"oci-archive:{archive}", "--all-platforms", "-o", f"type=oci,dest={tmp_path}/b.tar")
    assert "--all-platforms is for images of the store" in said and not (tmp_path / "b.tar").exists()


def test_annotations_of_another_level_are_refused(tmp_path: Path, context: Path) -> None:
    here = empty(tmp_path, "store")
    here("-q", "--platform", AMD, "-t", "amd64", context)
    here("index", "create", "-q", "--annotation=index:a=b:c=d", "--annotation=e=f", "all:1", "amd64")
    assert shown(here, "all:1")["annotations"] == {"a": "b:c=d", "e": "f"}
    done = here.run("index", "add", "--annotation=manifest:a=b", "all:1", "amd64")
    assert done.status == 2 and "expected KEY=VALUE or index:KEY=VALUE" in done.err


def test_annotations_of_the_sources_are_kept(tmp_path: Path, context: Path) -> None:
    """Those of entries always, those of an index that is the only source; then an index without changes stays itself."""
    here = empty(tmp_path, "store")
    notes = ("--annotation=index:a=b", "--annotation=manifest-descriptor:c=d")
    digest = here("-q", f"--platform={AMD},{ARM}", *notes, "-t", "m", context).out.strip()
    here("-q", "--platform", RISCV, "-t", "riscv64", context)
    assert here("index", "create", "-q", "n", "m").out.strip() == digest
    found = shown(here, "n")
    assert found["annotations"]["a"] == "b" and [one["annotations"]["c"] for one in found["images"]] == ["d", "d"]
    here("index", "create", "-q", "--annotation=e=f", f"--platform={ARM}", "part", "m")
    assert shown(here, "part")["annotations"] == {**found["annotations"], "e": "f"}
    assert shown(here, "part")["images"] == found["images"][1:]
    here("index", "create", "-q", "all", "m", "riscv64")
    assert shown(here, "all")["annotations"] == {} and shown(here, "all")["images"][:2] == found["images"]
    here("index", "create", "-q", "grown", "riscv64")
    here("index", "add", "-q", "grown", "m")
    assert shown(here, "grown")["images"][1:] == found["images"]
    here.assert_whole()
