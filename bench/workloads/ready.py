"""From an empty store to the end of the first RUN on Debian in a registry: pull, unpack, run `:`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from bench.peers import BuildKit, ContainersStorage, buildah_build
from bench.row import Contender, Row, floor
from bench.workloads.pull import download
from bench.world import remove

if TYPE_CHECKING:
    from bench.world import World


def row(world: World) -> Row:
    """The floor checks no digests and keeps no table of contents."""
    name = world.debian_remote
    context = world.context("ready", f"FROM {name}\nRUN :\n")
    store, tree = world.directory / "ready-store", world.directory / "ready-tree"
    storage = ContainersStorage(world, "ready-buildah")

    def empty() -> None:
        remove(tree)
        tree.mkdir()

    contenders = [
        world.pybuild(store, "build", "-q", "--network=none", context, before=lambda: remove(store)),
        floor(f"{download(world)} | igzip -d -c - | tar -x -C {shlex.quote(str(tree))}", empty),
        Contender(
            "buildah",
            buildah_build(storage, context, "--pull-always", "--tls-verify=false"),
            before=storage.reset,
        ),
    ]
    if BuildKit.there():
        kit = BuildKit(world)
        contenders.append(kit.build(context, "type=image", before=kit.prune))
    return Row("ready", "pull it and RUN :", tuple(contenders), aim=2.0, buildkit_aim=0.7)
