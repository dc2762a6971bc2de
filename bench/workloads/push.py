"""Push an image of 200 MB to a registry behind a slow line: an empty one, one that has it, and one that lacks a layer."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from bench.row import Contender, Row
from bench.slow_registry import SlowRegistry
from bench.world import PYBUILD, remove

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.world import World

_LAYERS = 4
_LAYER_SIZE = 50 << 20  # bytes, incompressible


def empty(world: World) -> Row:
    """All blobs are sent. The floor is skopeo, which does the same work from a layout."""
    bench = _Bench(world, "push")
    return bench.row("push", "push 200 MB into an empty registry", lambda: remove(bench.registry.data), aim=1.2)


def again(world: World) -> Row:
    """The registry has the image already."""
    bench = _Bench(world, "push-again")
    bench.push(bench.image)
    return bench.row("push-again", "the same, the registry has it", lambda: None)


def layer(world: World) -> Row:
    """The registry has all layers but one of 1 MB."""
    bench = _Bench(world, "push-layer")

    def before() -> None:
        remove(bench.registry.data)
        bench.push("bench.test/base:1")

    return bench.row("push-layer", "the same, it lacks a layer of 1 MB", before)


class _Bench:
    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self.store, self.layout = world.fresh(f"{name}-store"), world.directory / f"{name}-layout"
        self.registry = SlowRegistry(world, name)
        context = world.context(name, "FROM scratch\n" + "".join(f"COPY {number} /\n" for number in range(_LAYERS)))
        numbers = random.Random(200)
        for number in range(_LAYERS):
            (context / str(number)).write_bytes(numbers.randbytes(_LAYER_SIZE))
        self.image = "bench.test/app:1"
        environment = {"PYBUILD_ROOT": str(self.store)}
        world.setup(PYBUILD, "-q", "-t", "bench.test/base:1", context, **environment)
        (context / "more").write_bytes(numbers.randbytes(1 << 20))
        with open(context / "Buildfile", "a") as recipe:
            recipe.write("COPY more /\n")
        world.setup(PYBUILD, "-q", "-t", self.image, context, **environment)
        remove(self.layout)
        world.setup(PYBUILD, "export", self.image, "-o", f"type=oci,tar=false,dest={self.layout}", **environment)

    def push(self, name: str) -> None:
        """Push an image past the proxy."""
        self._world.setup(PYBUILD, "push", "-q", name, f"{self.registry.registry.host}/app:1", PYBUILD_ROOT=str(self.store))

    def row(self, name: str, what: str, before: Callable[[], None], aim: float | None = None) -> Row:
        target = f"{self.registry.host}/app:1"
        skopeo = ("skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", f"oci:{self.layout}", f"docker://{target}")
        return Row(
            name,
            what,
            (
                self._world.pybuild(self.store, "push", "-q", self.image, target, before=before),
                Contender("floor", skopeo, before),
            ),
            aim=aim,
            traffic=self.registry,
        )
