"""COPY of one file of 1 GiB; every second MiB of it is incompressible."""

from __future__ import annotations

import random
import shlex
from typing import TYPE_CHECKING

from bench.peers import BuildKit, ContainersStorage, buildah_archive
from bench.row import Row, floor
from bench.world import remove

if TYPE_CHECKING:
    from pathlib import Path

    from bench.row import Contender
    from bench.world import World

_MIB = 1024


def zstd(world: World) -> Row:
    """The floor compresses the file and computes its digest, on all processors."""
    return _row(world, "big", "zstd", "zstd -q -3 -T0 -c", aim=1.5)


def gzip(world: World) -> Row:
    """The same with gzip, which uses one thread."""
    return _row(world, "big-gzip", "gzip", "igzip -2 -c", aim=1.3)


def _row(world: World, name: str, compression: str, compress: str, aim: float) -> Row:
    context = world.context(name, "FROM scratch\nCOPY file /\n")
    _write(context / "file")
    store, out = world.directory / f"{name}-store", world.directory / f"{name}.tar"
    storage = ContainersStorage(world, f"{name}-buildah")
    output = f"type=oci,dest={out},compression={compression}"
    file = shlex.quote(str(context / "file"))
    contenders: list[Contender] = [
        world.pybuild(store, "build", "-q", "-o", output, context, before=lambda: remove(store)),
        floor(f"{compress} {file} > {shlex.quote(str(out))}.floor; openssl dgst -sha256 {file}"),
    ]
    if compression == "gzip":
        contenders.append(buildah_archive(storage, context, f"{out}.buildah", before=storage.reset))
    if BuildKit.there():
        kit = BuildKit(world)
        contenders.append(
            kit.build(context, f"type=oci,dest={out}.buildkit,compression={compression}", before=kit.prune)
        )
    return Row(name, f"COPY of a file of 1 GiB, {compression}", tuple(contenders), aim=aim)


def _write(path: Path) -> None:
    numbers = random.Random(1 << 30)
    line = b"a line of a file that is well worth compressing, as most are\n"
    text = (line * (1 << 15))[: 1 << 20]
    with open(path, "wb") as file:
        for _ in range(_MIB // 2):
            file.write(numbers.randbytes(1 << 20))
            file.write(text)
