"""Measures how builds grow with files, layers and stages: `python -m bench.curves` (docs/user/performance.md).

Each point is a build without cache: three timed runs, and one that measures memory. Growth is linear if the last column
is about constant: it is cpu time per file, layer or stage, after subtracting the smallest build.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from bench import measure
from bench.world import World, remove

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.row import Contender

_TURNS = 3
_IN_A_DIRECTORY = 1000  # files
CHECKOUT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(prog="python -m bench.curves", description=__doc__)
    parser.add_argument("curves", nargs="*", choices=[*CURVES, []], metavar="CURVE", help=f"of {', '.join(CURVES)}")
    parser.add_argument("--directory", type=Path, default=CHECKOUT / ".bench", help="directory of the workloads")
    arguments = parser.parse_args()
    measure.adopt_orphans()
    with World(arguments.directory.resolve()) as world:
        print(
            f"{'curve':<8} {'count':>7} {'seconds':>8} {'cpu':>7} {'peak MiB':>9} {'cpu ms for each':>16}", flush=True
        )
        for name in arguments.curves or CURVES:
            first: tuple[int, float] | None = None
            for count, contender in CURVES[name](world):
                samples = [measure.timed(contender) for _ in range(_TURNS)]
                seconds, cpu = (statistics.median(getattr(s, field) for s in samples) for field in ("seconds", "cpu"))
                peak = measure.peak_memory(contender) / (1 << 20)
                each = "" if first is None else f"{(cpu - first[1]) / (count - first[0]) * 1000:.3f}"
                first = first or (count, cpu)
                print(f"{name:<8} {count:>7} {seconds:>8.2f} {cpu:>7.2f} {peak:>9.0f} {each:>16}", flush=True)


def _files(world: World) -> Iterator[tuple[int, Contender]]:
    """COPY of `count` files of 1 KB into an empty store."""
    for count in (1_000, 10_000, 100_000):
        context = world.context(f"curve-{count}-files", "FROM scratch\nCOPY files /files\n")
        for start in range(0, count, _IN_A_DIRECTORY):
            directory = context / "files" / str(start)
            directory.mkdir(parents=True)
            for number in range(start, start + _IN_A_DIRECTORY):
                (directory / str(number)).write_bytes(f"{number:08}".encode() * 128)
        store = world.directory / "curve-store"
        yield count, _build(world, store, context, before=lambda store=store: remove(store))  # type: ignore[misc]
        remove(context)


def _layers(world: World) -> Iterator[tuple[int, Contender]]:
    """`count` RUN steps in a row, each with a layer."""
    store = world.store_with_debian("curve-layers")
    for count in (1, 30, 60, 120):
        steps = "".join(f"RUN echo {number} > /{number}\n" for number in range(count))
        context = world.context(f"curve-{count}-layers", f"FROM {world.debian_remote}\n{steps}")
        yield count, _build(world, store, context, "--no-cache")


def _stages(world: World) -> Iterator[tuple[int, Contender]]:
    """`count` stages with one RUN each; the last stage copies from all of them."""
    store = world.store_with_debian("curve-stages")
    for count in (1, 10, 25, 50):
        stages = "".join(f"FROM {world.debian_remote} AS s{n}\nRUN echo {n} > /{n}\n" for n in range(count))
        copies = "".join(f"COPY --from=s{n} /{n} /\n" for n in range(count))
        context = world.context(f"curve-{count}-stages", f"{stages}FROM scratch\n{copies}")
        yield count, _build(world, store, context, "--no-cache")


def _sparse(world: World) -> Iterator[tuple[int, Contender]]:
    """A RUN that leaves a sparse file of `count` GiB."""
    store = world.store_with_debian("curve-sparse")
    for count in (1, 5, 20):
        context = world.context(f"curve-{count}-sparse", f"FROM {world.debian_remote}\nRUN truncate -s {count}G /file\n")
        yield count, _build(world, store, context, "--no-cache")


def _build(
    world: World, store: Path, context: Path, *arguments: str, before: Callable[[], object] = lambda: None
) -> Contender:
    output = f"type=oci,dest={world.directory / 'curve.tar'},compression=zstd"
    return world.pybuild(store, *world.BUILD, *arguments, "-o", output, context, before=before)


CURVES = {"files": _files, "layers": _layers, "stages": _stages, "sparse": _sparse}

if __name__ == "__main__":
    main()
