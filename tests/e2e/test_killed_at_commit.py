"""A process that is killed at any commit, or before any change of a file, leaves a store without damage.

The same command passes afterwards, with the same result.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from pybuild.store.maintenance.fsck import check
from pybuild.store.store import Store
from tests.support import killed_at_commit
from tests.support.cli import BASE, Done, Pybuild, copy_store, write_context
from tests.support.registry import DockerRegistry, docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECIPE = f"""\
FROM {BASE} AS made
RUN echo made > /made
FROM {BASE}
COPY file /
COPY --from=made /made /made
RUN chmod 600 /made
"""
CACHING = f"""\
FROM {BASE} AS seed
RUN mkdir /seed && echo seed > /seed/file
FROM {BASE}
RUN --mount=type=cache,target=/a --mount=type=cache,from=seed,source=/seed,target=/b cat /b/file > /made
"""
EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}
MOST = 200  # moments of one command
EVERY = int(os.environ.get("PYBUILD_KILL_EVERY", "30"))  # 1 kills at each moment
FIRST = {"before": 1, "after": 2, "file": 3}
WHEN = pytest.mark.parametrize("when", list(FIRST))


def kill_everywhere(
    pybuild: Pybuild, tmp_path: Path, when: str, *arguments: object, damaged: bool = False, done: str = "never"
) -> list[Done]:
    """Run a command on copies of a store, killed at one moment after another, and then again; return these runs.

    `damaged`: the store may be damaged before the second run, because the command is to repair it. `done` is a part of
    the error with which the second run says that the killed one had done everything.
    """
    runs = []
    for number in range(min(FIRST[when], EVERY), MOST, EVERY):
        root = tmp_path / f"{when}-{number}"
        if pybuild.root.exists():
            copy_store(pybuild.root, root)
        command = (sys.executable, killed_at_commit.__file__, when, str(number))
        killed = Pybuild(root, pybuild.environment, command).run(*arguments)
        if not damaged:
            assert_no_damage(root, number)
        again = Pybuild(root, pybuild.environment).run(*arguments)
        assert again.status == 0 or done in again.err, (number, again.err)
        assert_no_damage(root, number)
        runs.append(again)
        shutil.rmtree(root, ignore_errors=True)  # `reset` removes it
        if killed.status != killed_at_commit.KILLED:
            assert killed.status == 0, killed.err
            return runs
    raise AssertionError(f"more than {MOST} moments")


def assert_no_damage(root: Path, number: int) -> None:
    if root.exists():
        with Store(str(root)) as store:
            assert check(store).damage == (), number


@WHEN
@pytest.mark.parametrize("output", ["tag", "layout"])
def test_a_build(pybuild: Pybuild, tmp_path: Path, when: str, output: str) -> None:
    context = write_context(tmp_path / "c", RECIPE, file="x")
    results = {
        "tag": ("-t", "app"),
        "layout": ("-o", f"type=oci,tar=false,compression=zstd,dest={tmp_path}/layout", "-o", f"type=local,dest={tmp_path}/files"),
    }[output]
    runs = kill_everywhere(
        Pybuild(pybuild.root, EPOCH), tmp_path, when, "build", "--network=none", *results, context
    )
    assert len(runs) > 10 // EVERY
    assert len({run.out for run in runs}) == 1


@WHEN
def test_a_build_for_several_platforms(pybuild: Pybuild, tmp_path: Path, when: str) -> None:
    context = write_context(tmp_path / "c", "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /\n", amd64="1", arm64="2")
    words = ("--platform=linux/amd64,linux/arm64", "-t", "app", "-o", f"type=local,dest={tmp_path}/files", context)
    runs = kill_everywhere(Pybuild(tmp_path / "new", EPOCH), tmp_path, when, *words)
    assert len({run.out for run in runs}) == 1


@WHEN
def test_a_build_that_takes_a_cache_and_writes_one(pybuild: Pybuild, tmp_path: Path, when: str) -> None:
    """The records of the cache become records of the store, and its layers are fetched and read."""
    context = write_context(tmp_path / "c", RECIPE, file="x")
    copy_store(pybuild.root, tmp_path / "other store")
    first, second = (f"type=local,{word}={tmp_path}/cache" for word in ("dest", "src"))
    Pybuild(tmp_path / "other store", EPOCH)("build", "--network=none", f"--cache-to={first},mode=max", context)
    results = ("-o", f"type=oci,dest={tmp_path}/out.tar", f"--cache-to=type=local,dest={tmp_path}/again,mode=max")
    runs = kill_everywhere(
        Pybuild(pybuild.root, EPOCH), tmp_path, when, "build", "--network=none", f"--cache-from={second}", *results, context
    )
    assert len({run.out for run in runs}) == 1


@WHEN
def test_a_build_with_cache_mounts(pybuild: Pybuild, tmp_path: Path, when: str) -> None:
    context = write_context(tmp_path / "c", CACHING)
    runs = kill_everywhere(Pybuild(pybuild.root, EPOCH), tmp_path, when, "build", "--network=none", context)
    assert len({run.out for run in runs}) == 1


@WHEN
def test_a_build_that_restores_and_saves_cache_mounts(pybuild: Pybuild, tmp_path: Path, when: str) -> None:
    """A mount is restored whole or not at all: the RUN finds both files, or none."""
    files = "if [ -e /a/1 ]; then cat /a/2; else [ ! -e /a/2 ]; fi && touch /a/1 && echo $V > /a/2"
    context = write_context(tmp_path / "c", f"FROM {BASE}\nARG V=1\nRUN --mount=type=cache,target=/a {files}\n")
    cache = f"{tmp_path}/cache"
    first = tmp_path / "first"
    copy_store(pybuild.root, first)
    Pybuild(first, EPOCH)("build", "--network=none", f"--cache-to=type=local,dest={cache},mounts=all", context)
    options = ("--build-arg=V=2", f"--cache-from=type=local,src={cache}", f"--cache-to=type=local,dest={cache}2,mounts=all")
    runs = kill_everywhere(Pybuild(pybuild.root, EPOCH), tmp_path, when, "build", "--network=none", *options, context)
    assert len({run.out for run in runs}) == 1


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, base_archive: Path) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as found:
        found.push(base_archive, "team/base:1")
        yield found


@WHEN
def test_a_pull(registry: DockerRegistry, tmp_path: Path, when: str) -> None:
    empty = Pybuild(tmp_path / "store", {"HOME": str(tmp_path)})
    runs = kill_everywhere(empty, tmp_path, when, "pull", f"{registry.host}/team/base:1")
    assert len({run.out for run in runs}) == 1


@WHEN
def test_an_export_that_converts(registry: DockerRegistry, tmp_path: Path, when: str) -> None:
    """The layer of a pulled image is first read, then compressed again: both become part of the store."""
    pulled, name = Pybuild(tmp_path / "store", {"HOME": str(tmp_path)}), f"{registry.host}/team/base:1"
    pulled("pull", name)
    output = f"type=oci,compression=zstd,dest={tmp_path}/out.tar"
    runs = kill_everywhere(pulled, tmp_path, when, "export", name, "-o", output)
    assert len({run.err for run in runs}) == 1


@WHEN
@pytest.mark.parametrize("verb", ["import", "tag", "rmi", "gc", "reset"])
def test_other_verbs(pybuild: Pybuild, tmp_path: Path, base_archive: Path, verb: str, when: str) -> None:
    arguments = {
        "import": ("import", base_archive, "other:1"),
        "tag": ("tag", BASE, "other:1"),
        "rmi": ("rmi", BASE),
        "gc": ("gc", "--all"),
        "reset": ("reset",),
    }[verb]
    if verb in ("import", "reset"):
        pybuild("reset")
    if verb == "reset":
        pybuild("import", base_archive)  # without a tree, which has hundreds of files
    done = "no image" if verb == "rmi" else "never"
    assert kill_everywhere(pybuild, tmp_path, when, *arguments, done=done)


@WHEN
def test_gc_of_cache_mounts(pybuild: Pybuild, tmp_path: Path, when: str) -> None:
    pybuild("build", "--network=none", write_context(tmp_path / "c", CACHING))
    kill_everywhere(pybuild, tmp_path, when, "gc", "--all")


@WHEN
def test_a_repair(pybuild: Pybuild, tmp_path: Path, when: str) -> None:
    """A lost blob, table of contents and tree: the repair drops an image with its name, and keeps another one."""
    context = write_context(tmp_path / "c", RECIPE, file="x")
    pybuild("build", "--network=none", "-t", "app", context)
    blobs = pybuild.root / "blobs" / "sha256"
    min(blobs.iterdir(), key=lambda blob: blob.stat().st_size).write_bytes(b"flipped")
    min((pybuild.root / "tocs").iterdir()).write_bytes(b"flipped")
    shutil.rmtree(min((pybuild.root / "trees").iterdir()))
    kill_everywhere(pybuild, tmp_path, when, "fsck", "--repair", damaged=True)
