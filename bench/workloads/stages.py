"""Independent stages that wait: do they wait in parallel?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.peers import BuildKit
from bench.row import Row, floor

if TYPE_CHECKING:
    from bench.world import World

_STAGES = 8


def eight(world: World) -> Row:
    """Eight stages, joined by COPY --from."""
    base = world.debian_remote
    stages = "".join(f"FROM {base} AS s{n}\nRUN sleep 2 && echo {n} > /{n}\n" for n in range(_STAGES))
    joined = "".join(f"COPY --from=s{n} /{n} /\n" for n in range(_STAGES))
    return _row(world, "stages", f"{stages}FROM scratch\n{joined}", "eight stages of `sleep 2`", 2.6)


def beside(world: World) -> Row:
    """A builder stage, parallel to a step of the final stage that does not need it yet."""
    base = world.debian_remote
    recipe = f"""\
FROM {base} AS builder
RUN sleep 2 && echo built > /built
FROM {base}
RUN sleep 2
COPY --from=builder /built /
"""
    return _row(world, "beside", recipe, "two parallel `sleep 2`", 2.8)


def _row(world: World, name: str, recipe: str, what: str, limit: float) -> Row:
    context = world.context(name, recipe)
    store = world.store_with_debian(f"{name}-store")
    contenders = [world.pybuild(store, *world.BUILD, "--no-cache", context), floor("sleep 2")]
    if BuildKit.there():
        contenders.append(BuildKit(world).build(context, "type=image", "--no-cache"))
        world.warm(contenders[-1])
    return Row(name, what, tuple(contenders), limit=limit)
