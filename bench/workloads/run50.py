"""Fifty trivial steps on Debian: the cost of a RUN and its layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.peers import BuildKit, ContainersStorage, buildah_archive
from bench.row import Row, floor, namespaces

if TYPE_CHECKING:
    from bench.world import World

_STEPS = 50


def row(world: World) -> Row:
    """The floor creates the namespaces of fifty steps, but no layers."""
    steps = "".join(f"RUN echo {number} > /{number}\n" for number in range(_STEPS))
    context = world.context("run50", f"FROM {world.debian_remote}\n{steps}")
    store = world.store_with_debian("run50-store")
    out = world.directory / "run50.tar"
    storage = ContainersStorage(world, "run50-buildah")
    buildah = buildah_archive(storage, context, f"{out}.buildah", "--no-cache")
    contenders = [
        world.pybuild(store, *world.BUILD, "--no-cache", "-o", f"type=oci,dest={out}", context),
        floor(f"for i in $(seq {_STEPS}); do {namespaces()} sh -c :; done"),
        buildah,
    ]
    world.warm(buildah)
    if BuildKit.there():
        contenders.append(BuildKit(world).build(context, f"type=oci,dest={out}.buildkit", "--no-cache"))
        world.warm(contenders[-1])
    return Row("run50", f"{_STEPS} trivial RUN, {_STEPS} layers", tuple(contenders), aim=6)
