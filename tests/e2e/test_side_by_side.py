"""rmi, gc, tag, build and import on one image of one store, side by side, in every order of their steps.

tests/support/interleaving.py says what a step is, and why a few hundred schedules are all of those of two commands.
PYBUILD_INTERLEAVE=two tries all of these, and hundreds of each three commands: some minutes. Otherwise only those with the
fewest switches are tried, which for half of the pairs are all. PYBUILD_INTERLEAVE=all makes the steps smaller, and tries
every schedule of three commands: hours.
"""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pybuild.store.maintenance.fsck import check
from pybuild.store.store import Store
from tests.support.archives import Archive
from tests.support.interleaving import Ended, Interleaving, run_alone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.interleaving import Outcome

RECIPE = "FROM base\nWORKDIR /made\nENV a=b\n"  # no step needs a worker process, which would be slow to start
# The most schedules that are tried, of two commands and of three; None: all.
MOST_OF_TWO, MOST_OF_THREE = {"two": (None, 200), "all": (None, None)}.get(os.environ.get("PYBUILD_INTERLEAVE", ""), (16, 2))
_NO_IMAGE = r"error: no image .*(app|sha256:).* in the store\n"
# What a command may say when it fails. A build and an import make the image if it is gone; gc does not need it.
REFUSALS = {"rmi": _NO_IMAGE, "tag": _NO_IMAGE}
ALONE = 9  # the number of processes that run while no other does


@dataclass(frozen=True)
class Scene:
    """A store with the image `app`, and the commands."""

    store: Path
    commands: dict[str, list[str]]
    digest: str
    scratch: Path

    def run(self, root: Path, *arguments: str, number: int = ALONE) -> Ended:
        return run_alone(number, root, arguments, self.scratch / "alone")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    place = tmp_path_factory.mktemp("scene")
    (place / "base.tar").write_bytes(Archive().data())
    (place / "context").mkdir()
    (place / "context" / "Buildfile").write_text(RECIPE)
    build = ["build", "-q", "--network=none", "-t", "app", str(place / "context")]
    scene = Scene(place / "store", {}, "", place)
    for arguments in (["import", f"{place}/base.tar", "base"], build):
        done = scene.run(scene.store, *arguments)
        assert done.status == 0, done.output
    exported = scene.run(scene.store, "export", "app", "-o", f"type=oci,dest={place}/app.tar")
    assert exported.status == 0, exported.output
    commands = {
        "rmi": ["rmi", "app"],
        "gc": ["gc", "--all"],
        "tag": ["tag", "app", "other"],
        "build": build,
        "import": ["import", f"{place}/app.tar", "app"],
    }
    return Scene(scene.store, commands, done.output.strip(), place)


def verify(scene: Scene, names: tuple[str, ...], outcome: Outcome, root: Path) -> None:
    """Each command ended well or with one of the stated errors, the store is whole, and the build gives the same image."""
    for name, ended in zip(names, outcome.ended, strict=True):
        refused = ended.status == 1 and name in REFUSALS and re.match(REFUSALS[name], ended.output)
        assert ended.status == 0 or refused, f"{name}\n{outcome}"
    with Store(str(root)) as store:
        report = check(store)
        assert (report.damage, report.garbage) == ((), ()), str(outcome)
        for tag in store.images.tags():
            assert str(store.images.get(tag.manifest).manifest_digest) == str(tag.manifest), str(outcome)
    again = scene.run(root, *scene.commands["build"], number=ALONE + 1)
    assert (again.status, again.output.strip()) == (0, scene.digest), f"{outcome}\n--- build again\n{again.output}"


def outcomes(scene: Scene, names: tuple[str, ...], place: Path, most: int | None) -> Iterator[Outcome]:
    interleaving = Interleaving(scene.store, [scene.commands[name] for name in names], place)
    for outcome in interleaving.explore(most):
        verify(scene, names, outcome, interleaving.root)
        yield outcome
    assert interleaving.explored.complete or most is not None
    print(names, interleaving.explored)  # shown by pytest -s


COMMANDS = ("rmi", "gc", "tag", "build", "import")


@pytest.mark.parametrize("names", list(itertools.combinations_with_replacement(COMMANDS, 2)), ids="-".join)
def test_two_in_every_order(scene: Scene, tmp_path: Path, names: tuple[str, str]) -> None:
    assert list(outcomes(scene, names, tmp_path, MOST_OF_TWO))


@pytest.mark.parametrize("names", list(itertools.combinations_with_replacement(COMMANDS, 3)), ids="-".join)
def test_three_in_many_orders(scene: Scene, tmp_path: Path, names: tuple[str, str, str]) -> None:
    assert list(outcomes(scene, names, tmp_path, MOST_OF_THREE))


def test_the_search_finds_all_that_two_commands_can_do(scene: Scene, tmp_path: Path) -> None:
    """rmi before tag, tag before rmi, and rmi between the look-up of tag and its transaction."""
    found = {
        tuple(ended.status for ended in outcome.ended) for outcome in outcomes(scene, ("rmi", "tag"), tmp_path, None)
    }
    assert found == {(0, 0), (0, 1)}
