"""Steps in the root of a container: from one stage to another one, and finding what a command has changed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from bench.row import Contender, Row, shell

if TYPE_CHECKING:
    from pathlib import Path

    from bench.world import World

_FILES = 100
_WALK_SECONDS = 0.71  # ten walks of 8,900 files at 8 us a file
_START_SECONDS = 0.3  # the interpreter, and opening the store


def switch(world: World) -> Row:
    """The difference of the two stages is a hundred files each; the rest is a Debian. The floor removes and copies them."""
    store, root, facts = _two_images(world, "in-place-switch")
    ours = Contender("pybuild", _command("switch", store, root, facts), lambda: _make(world, store, root, facts))
    new, old = world.directory / "in-place-switch-b-context", root / "usr/share/a"
    floor = shell("floor", f"rm -r {old}; cp -a {new} {root}/usr/share/b", lambda: _make(world, store, root, facts))
    return Row("in-place-switch", f"to a stage with {_FILES} other files on one Debian", (ours, floor), limit=0.3 + _START_SECONDS)


def look(world: World) -> Row:
    """A RUN that changes ten files costs one walk; here are ten of them. The floor is find(1), which reads the same."""
    store, root, facts = _two_images(world, "in-place-look")
    ours = Contender("pybuild", _command("look", store, root, facts), lambda: _make(world, store, root, facts))
    walks = f"for i in 0 1 2 3 4 5 6 7 8 9; do find {root} -printf '%i %m %n %s %T@ %C@' >/dev/null; done"
    floor = shell("floor", walks, lambda: _make(world, store, root, facts))
    return Row("in-place-look", "what a RUN changed in a Debian, ten times", (ours, floor), limit=_WALK_SECONDS + _START_SECONDS)


def _two_images(world: World, name: str) -> tuple[Path, Path, Path]:
    """A store with the images a and b, a place for a root, and one for facts."""
    store = world.store_with_debian(f"{name}-store")
    for image in ("a", "b"):
        files = {f"{image}{number}": f"{image}{number}\n" * 500 for number in range(_FILES)}
        recipe = f"FROM {world.debian_remote}\nCOPY . /usr/share/{image}/\n"
        context = world.context(f"{name}-{image}", recipe, **files)
        world.setup(*world.pybuild(store, *world.BUILD, "-t", image, context).command, PYBUILD_ROOT=str(store))
    place = world.fresh(name)
    return store, place / "root", place / "facts"


def _command(what: str, store: Path, root: Path, facts: Path) -> tuple[str, ...]:
    return (sys.executable, "-m", "bench.in_place", what, str(store), str(root), str(facts))


def _make(world: World, store: Path, root: Path, facts: Path) -> None:
    root.mkdir(exist_ok=True)
    facts.unlink(missing_ok=True)
    world.setup(*_command("make", store, root, facts))
