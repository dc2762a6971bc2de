"""RUN without overlays: the first one copies the base image, each further one looks at every file of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.row import Row, floor

if TYPE_CHECKING:
    from bench.row import Contender
    from bench.world import World

_STEPS = 20


def first(world: World) -> Row:
    """The floor copies the same root and removes the copy, as pybuild does at its end."""
    root, copy = _unpacked(world), world.fresh("copies-made")
    copying = floor(f"cp -a {root} {copy} && rm -r {copy}")
    return Row("copies", "one RUN on Debian, --snapshots=copy", (_built(world, "copies", 1), copying), aim=2.0)


def further(world: World) -> Row:
    """The floor copies once, and looks at every file once a step. pybuild also starts the steps and writes their layers."""
    root, copy = _unpacked(world), world.fresh("copied-runs-made")
    looking = f"cp -a {root} {copy} && for n in $(seq {_STEPS}); do find {root} -newer {root} > /dev/null; done"
    made = floor(f"{looking}; rm -r {copy}")
    return Row("copied-runs", f"{_STEPS} RUN on Debian, --snapshots=copy", (_built(world, "copied-runs", _STEPS), made), aim=3.0)


def _built(world: World, name: str, steps: int) -> Contender:
    lines = "".join(f"RUN echo {number} > /{number}\n" for number in range(steps))
    context = world.context(name, f"FROM {world.debian_remote}\n{lines}")
    store = world.store_with_debian(f"{name}-store")
    return world.pybuild(store, *world.BUILD, "--no-cache", "--snapshots=copy", context)


def _unpacked(world: World) -> str:
    root = world.fresh("copies-root")
    world.setup("tar", "-C", root, "--exclude=./dev/*", "-xf", world.debian_tar)
    return str(root)
