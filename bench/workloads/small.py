"""A context of 50,000 files of 1 KB: a first build, and a build after one file changed."""

from __future__ import annotations

import itertools
import random
import shlex
from typing import TYPE_CHECKING

from bench.peers import BuildKit, ContainersStorage, buildah_archive
from bench.row import Row, floor
from bench.world import remove

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.row import Contender
    from bench.world import World

_DIRECTORIES = 500
_FILES = 100  # in each


def cold(world: World) -> Row:
    """A build with an empty store. The floor is a compressed tar of the context."""
    context = _context(world, "small")
    store = world.directory / "small-store"
    storage = ContainersStorage(world, "small-buildah")
    return _row(world, "small", context, store, storage, lambda: remove(store), storage.reset, "COPY of 50,000 files")


def changed(world: World) -> Row:
    """A build in the same store. The floor is the same as for `cold`: the one layer is written again."""
    context = _context(world, "incr")
    numbers = itertools.count()

    def change() -> None:
        (context / "files/7/7").write_text(f"change {next(numbers)}\n")

    storage = ContainersStorage(world, "incr-buildah")
    row = _row(world, "incr", context, world.fresh("incr-store"), storage, change, change, "the same, one file changed")
    for contender in row.contenders:
        world.warm(contender)
    return row


def _row(
    world: World, name: str, context: Path, store: Path, storage: ContainersStorage,
    before: Callable[[], object], before_buildah: Callable[[], object], what: str,
) -> Row:  # fmt: skip
    out = world.directory / f"{name}.tar"
    zstd = f"zstd -q -3 -T0 -f -o {shlex.quote(str(out))}.floor"
    contenders: list[Contender] = [
        world.pybuild(store, "build", "-q", "-o", f"type=oci,dest={out},compression=zstd", context, before=before),
        floor(f"tar -c -C {shlex.quote(str(context))} files | {zstd}", before),
        buildah_archive(storage, context, f"{out}.buildah", before=before_buildah),
    ]
    if BuildKit.there():
        kit = BuildKit(world)
        reset = kit.prune if name == "small" else before
        contenders.append(kit.build(context, f"type=oci,dest={out}.buildkit,compression=zstd", before=reset))
    return Row(name, what, tuple(contenders), aim=2.5)


def _context(world: World, name: str) -> Path:
    """Half of each file is incompressible."""
    context = world.context(name, "FROM scratch\nCOPY files /files\n")
    numbers = random.Random(50_000)
    for directory in range(_DIRECTORIES):
        path = context / f"files/{directory}"
        path.mkdir(parents=True)
        for file in range(_FILES):
            (path / str(file)).write_text(numbers.randbytes(512).hex())
    return context
