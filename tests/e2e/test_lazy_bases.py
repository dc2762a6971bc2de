"""Base images whose layers stay in their registry until something needs their bytes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.archives import Archive
from tests.support.cli import Pybuild, write_context
from tests.support.registry import DockerRegistry, docker_registry
from tests.support.tars import entry, tar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def own_registry(tmp_path: Path, base_archive: Path) -> Iterator[tuple[DockerRegistry, Path]]:
    """A registry that a test can damage, and the directory of its files."""
    with docker_registry(tmp_path / "registry") as found:
        found.push(base_archive, "team/base:1")
        yield found, tmp_path / "registry" / "data"


@pytest.fixture
def empty(tmp_path: Path) -> Pybuild:
    return Pybuild(tmp_path / "store", {"HOME": str(tmp_path)})


def layers(pybuild: Pybuild, name: str) -> list[str]:
    """The digests of an image's layers."""
    manifest = json.loads(pybuild("inspect", name).out)["manifest"]
    return [layer["digest"] for layer in manifest["layers"]]


def here(pybuild: Pybuild, name: str) -> list[bool]:
    """Whether the blob of each layer of an image is in the store."""
    return [(pybuild.root / "blobs" / digest.replace(":", "/")).exists() for digest in layers(pybuild, name)]


def lose(directory: Path, digest: str) -> None:
    """Remove a blob from a registry, as its garbage collection does."""
    shutil.rmtree(directory / "docker/registry/v2/blobs/sha256" / digest[7:9] / digest[7:])


METADATA = "FROM {name}\nLABEL a=b\nENV C=d\nCMD [\"x\"]\n"


def test_metadata_needs_no_layer(registry: DockerRegistry, empty: Pybuild, tmp_path: Path) -> None:
    name = f"{registry.host}/team/base:1"
    done = empty("--progress=json", "-t", "app:1", write_context(tmp_path / "c", METADATA.format(name=name)))
    assert not [event for event in done.events if event["event"] == "transfer"]
    assert here(empty, "app:1") == here(empty, name) == [False]
    assert "not here" in empty("images").out.splitlines()[-1]
    listed = [json.loads(line) for line in empty("images", "--json").out.splitlines()]
    assert all(line["not_here"] == line["size"] > 0 for line in listed)
    assert json.loads(empty("df", "--json").out)["not_here"]["count"] == 1
    assert "LABEL a=b" in empty("history", "app:1").out
    empty("gc", "--all")
    assert empty("fsck", "--deep").out.endswith("0 damaged, 0 left over\n")
    empty("-q", write_context(tmp_path / "c", METADATA.format(name=name)))
    assert here(empty, "app:1") == [False]
    assert empty("fetch", "app:1").out == done.out
    assert here(empty, "app:1") == [True]
    empty.assert_whole()


@pytest.mark.parametrize(
    ("recipe", "fetched"),
    [
        ("FROM {name}\nCOPY --link file /file\n", False),
        ("FROM {name}\nCOPY file /file\n", True),
        ("FROM {name}\nWORKDIR /new\n", True),
        ("FROM {name}\nRUN test -x /bin/busybox\n", True),
        ("FROM scratch\nCOPY --from={name} /bin/busybox /b\n", True),
        ("FROM {name} AS unused\nRUN false\nFROM scratch\nCOPY file /\n", False),
    ],
)
def test_a_layer_comes_when_its_files_matter(
    registry: DockerRegistry, empty: Pybuild, tmp_path: Path, recipe: str, fetched: bool
) -> None:
    name = f"{registry.host}/team/base:1"
    done = empty("--progress=json", write_context(tmp_path / "c", recipe.format(name=name), file="1\n"))
    transfers = [event for event in done.events if event["event"] == "transfer"]
    assert bool(transfers) == fetched
    assert {event["image"] for event in transfers} <= {name}
    if fetched:
        assert transfers[-1]["done"] == transfers[-1]["total"] != 0
        assert here(empty, name) == [True]
    empty.assert_whole()


@pytest.mark.parametrize("output", ["type=oci,dest={}", "type=docker,dest={}", "type=tar,dest={}", "type=local,dest={}"])
def test_an_output_has_all_layers(registry: DockerRegistry, empty: Pybuild, tmp_path: Path, output: str) -> None:
    name = f"{registry.host}/team/base:1"
    context = write_context(tmp_path / "c", METADATA.format(name=name))
    empty("-q", "-o", output.format(tmp_path / "first"), context)
    empty("pull", "-q", name)
    empty("-q", "-o", output.format(tmp_path / "second"), context)
    assert subprocess.run(["diff", "-r", tmp_path / "first", tmp_path / "second"], capture_output=True).stdout == b""
    empty.assert_whole()


@pytest.mark.parametrize("command", [["history", "--files", "{}"], ["history", "--waste", "{}"], ["diff", "{}", "{}"]])
def test_reading_files_fetches_their_layers(registry: DockerRegistry, empty: Pybuild, tmp_path: Path, command: list[str]) -> None:
    name = f"{registry.host}/team/base:1"
    empty("-q", write_context(tmp_path / "c", METADATA.format(name=name)))
    empty(*(word.format(name) for word in command))
    assert here(empty, name) == [True]
    empty.assert_whole()


def test_a_push_to_the_same_registry_moves_no_layer(registry: DockerRegistry, empty: Pybuild, tmp_path: Path) -> None:
    name, target = f"{registry.host}/team/base:1", f"{registry.host}/other/app:1"
    context = write_context(tmp_path / "c", METADATA.format(name=name))
    built = empty("-t", target, "--push", context).out.strip()
    assert here(empty, target) == [False]
    inspect = ["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{target}", f"oci:{tmp_path}/layout"]
    subprocess.run(inspect, check=True)
    index = json.loads((tmp_path / "layout" / "index.json").read_text())
    assert index["manifests"][0]["digest"] == built
    empty.assert_whole()


def test_a_push_to_another_registry_takes_the_layers_along(
    registry: DockerRegistry, own_registry: tuple[DockerRegistry, Path], empty: Pybuild, tmp_path: Path
) -> None:
    name = f"{registry.host}/team/base:1"
    archive = tmp_path / "new.tar"
    archive.write_bytes(Archive(layers=[tar(entry(b"f", data=b"only in the first registry"))]).data())
    registry.push(archive, "team/new:1")
    target = f"{own_registry[0].host}/other/app:1"
    for base in (name, f"{registry.host}/team/new:1"):
        built = empty("-t", target, "--push", write_context(tmp_path / "c", METADATA.format(name=base))).out
        fresh = Pybuild(tmp_path / f"fresh{base[-8:-2].replace('/', '')}", empty.environment)
        assert fresh("pull", "-q", target).out == built
        fresh.assert_whole()
        assert here(empty, target) == [False]
    empty.assert_whole()


def test_a_layer_whose_mount_is_declined_comes_from_its_registry(
    registry: DockerRegistry, own_registry: tuple[DockerRegistry, Path], empty: Pybuild, tmp_path: Path
) -> None:
    own, files = own_registry
    target = f"{own.host}/other/app:1"
    for host in (registry.host, own.host):  # both are known to have the layer
        empty("-q", "-t", target, write_context(tmp_path / "c", METADATA.format(name=f"{host}/team/base:1")))
    shutil.rmtree(files / "docker/registry/v2/repositories/team")  # nothing can be mounted from there any more
    assert here(empty, target) == [False]
    assert "1.0 MB spared" not in empty("push", target).err
    assert here(empty, target) == [False]  # the bytes came from the other registry
    fresh = Pybuild(tmp_path / "fresh", empty.environment)
    fresh("pull", "-q", target)
    assert here(fresh, target) == [True]
    empty.assert_whole()


def test_without_the_registry_the_layer_and_its_place_are_named(
    empty: Pybuild, tmp_path: Path, base_archive: Path
) -> None:
    with docker_registry(tmp_path / "registry") as registry:
        name = registry.push(base_archive, "team/base:1")
        empty("-q", write_context(tmp_path / "c", METADATA.format(name=name)))
        (layer,) = layers(empty, name)
        context = write_context(tmp_path / "c", f"FROM {name}\nRUN true\n")
        refused = empty.refused("--pull=never", context)
        assert f"layer {layer} is not in the store, and --pull=never" in refused
        assert "hint: pybuild fetch NAME" in refused
        assert "1 step is not cached" in empty.refused("--require-cached", context, status=3)
    refused = empty.refused(context)
    assert f"layer {layer} (" in refused
    assert f"cannot be fetched from {name}: " in refused
    assert f"cannot be fetched from {name}: " in empty.refused("fetch", name)
    assert f"cannot be fetched from {name}: " in empty.refused("export", name, "-o", f"type=oci,dest={tmp_path}/o.tar")
    assert not (tmp_path / "o.tar").exists()
    empty("-q", write_context(tmp_path / "c", METADATA.format(name=name)))


def test_a_layer_that_is_gone_has_the_base_looked_up_again(
    own_registry: tuple[DockerRegistry, Path], empty: Pybuild, tmp_path: Path
) -> None:
    registry, files = own_registry
    name = f"{registry.host}/team/moving:1"
    archive = tmp_path / "archive.tar"
    for text in (b"old", b"new"):
        archive.write_bytes(Archive(layers=[tar(entry(b"f", data=text))]).data())
        registry.push(archive, "team/moving:1")
        if text == b"old":
            empty("-q", write_context(tmp_path / "c", METADATA.format(name=name)))
            (old,) = layers(empty, name)
    lose(files, old)
    done = empty("-o", f"type=local,dest={tmp_path}/out", write_context(tmp_path / "c", f"FROM {name}\nCOPY file /\n", file="1"))
    assert (tmp_path / "out/f").read_bytes() == b"new"
    assert f"layer {old}" in done.err and f"not in {name} any more; the base images are looked up again" in done.err
    (new,) = layers(empty, name)
    empty("rmi", name)
    empty("gc", "--all")
    empty("-q", write_context(tmp_path / "c", METADATA.format(name=name)))
    lose(files, new)
    refused = empty.refused(write_context(tmp_path / "c", f"FROM {name}\nCOPY other /\n", other="2"))
    assert f"layer {new}" in refused and f"not in {name} any more" in refused


def test_names_and_gc_of_an_image_that_is_elsewhere(registry: DockerRegistry, empty: Pybuild, tmp_path: Path) -> None:
    name = f"{registry.host}/team/base:1"
    empty("-q", write_context(tmp_path / "c", METADATA.format(name=name)), "-t", "app:1")
    empty("tag", "app:1", "app:2")
    empty("rmi", "app:1", name)
    empty("gc", "--all")
    assert here(empty, "app:2") == [False]
    empty("export", "app:2", "-o", f"type=oci,dest={tmp_path}/out.tar")
    empty("rmi", "app:2")
    empty("gc", "--all")
    assert os.listdir(empty.root / "blobs/sha256") == []
    empty.assert_whole()


def test_fsck_fetches_a_damaged_layer_again(
    own_registry: tuple[DockerRegistry, Path], empty: Pybuild, tmp_path: Path
) -> None:
    registry, files = own_registry
    name = f"{registry.host}/team/base:1"
    empty("-q", write_context(tmp_path / "c", f"FROM {name}\nCOPY file /\n", file="1"), "-t", "app:1")
    pushed = f"{registry.host}/team/app:1"
    empty("push", "-q", "app:1", pushed)
    damaged = layers(empty, "app:1")  # one was fetched, the other was made here and pushed
    for digest in damaged:
        path = empty.root / "blobs" / digest.replace(":", "/")
        path.chmod(0o600)
        path.write_bytes(b"x" + path.read_bytes()[1:])
    assert empty.run("fsck").status == 1
    lose(files, damaged[0])
    out = empty("fsck", "--repair").out
    assert f"repaired: blob {damaged[0]}: not fetched again yet (layer {damaged[0]}" in out
    assert f"repaired: blob {damaged[1]}: fetched again\n" in out
    empty("gc", "--all")
    assert here(empty, "app:1") == [False, True]
    assert f"layer {damaged[0]} (" in empty.refused("export", "app:1", "-o", f"type=oci,dest={tmp_path}/o.tar")
    empty.assert_whole()
