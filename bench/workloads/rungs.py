"""Fifty trivial steps with the isolation for containers, against the same with full isolation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bench.row import Row

if TYPE_CHECKING:
    from bench.world import World

_STEPS = 50


def row(world: World) -> Row:
    """The floor is pybuild with --isolation=full. This machine refuses nothing, so the pieces of both are the same: the row
    measures the trial, and the user namespace of each step.
    """
    steps = "".join(f"RUN echo {number} > /{number}\n" for number in range(_STEPS))
    context = world.context("rungs", f"FROM {world.debian_remote}\n{steps}")
    container, full = (
        world.pybuild(
            world.store_with_debian(f"rungs-store-{isolation}"), *world.BUILD, "--no-cache", f"--isolation={isolation}",
            "-o", f"type=oci,dest={world.directory}/rungs-{isolation}.tar", context,
        )
        for isolation in ("container", "full")
    )  # fmt: skip
    return Row("rungs", f"{_STEPS} trivial RUN, --isolation=container", (container, replace(full, name="floor")), aim=1.1)
