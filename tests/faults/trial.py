"""What all kinds of faults share: a place where works run on one store, and what is checked after each fault."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.faults.figures import Figures, Wrong
from tests.faults.traces import Machine
from tests.faults.works import new_site, sources, stock, works
from tests.support.cli import FIXTURES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.faults.works import Answer, Site, Sources, Work
    from tests.support.cli import Done

_COUNTS = re.compile(r"(\d+) objects checked, (\d+) damaged, (\d+) left over")


@dataclass(frozen=True)
class Ground:
    """What the trials of all kinds stand on: the machine, the sources of the works, and their right answers."""

    place: Path
    machine: Machine
    given: Sources
    answers: dict[str, Answer]  # by the name of a work

    def trial(self, kind: str, seed: int) -> Trial:
        """A new site for one kind of fault. Its random numbers depend on the seed and the kind."""
        site = new_site(self.place / kind.replace(" ", "-"), self.machine.entered)
        stock(site, self.given)
        return Trial(self, site, works(site, self.given), Figures(kind), random.Random(f"{seed} {kind}"))


@contextmanager
def ground(place: Path) -> Iterator[Ground]:
    """Prepare it below a new directory. Each work runs there once, undisturbed, for its right answer."""
    place.mkdir()
    with ExitStack() as stack:
        base = place / "base.tar"
        subprocess.run([sys.executable, FIXTURES / "make_base.py", base], check=True)
        given = stack.enter_context(sources(place / "sources", base))
        machine = stack.enter_context(Machine(place))
        site = new_site(place / "right", machine.entered)
        stock(site, given)
        answers = {}
        for work in (work for some in works(site, given).values() for work in some):
            work.prepare(site)
            done, answer = work.run(site)
            assert answer is not None, f"{work.name}: {done.err}"
            answers[work.name] = answer
        yield Ground(place, machine, given, answers)


def _while_python_starts(text: str) -> bool:
    """Whether Python was interrupted before pybuild's first line: it shows a traceback, and ends as it should."""
    return text.rstrip().endswith("KeyboardInterrupt") and ", in main\n" not in text


@dataclass(frozen=True)
class Trial:
    """One kind of fault on one store, which goes on being used from round to round."""

    ground: Ground
    site: Site
    works: dict[str, list[Work]]
    figures: Figures
    random: random.Random

    def draw(self, verbs: Sequence[str]) -> Work:
        """A work of one of these verbs; each verb is as likely as it is often in the list."""
        return self.random.choice(self.works[self.random.choice(verbs)])

    def check(self, work: Work, fault: str) -> None:
        """After a fault in a work: nothing is left, the store is whole, and the same work gives the right answer."""
        for what in self.ground.machine.left():
            self.figures.add(Wrong.LEFT, f"{fault}: {what}")
        self.check_store(fault)
        self.check_answer(work, fault)
        for path in self.site.files_left():
            self.figures.add(Wrong.LEFT, f"{fault}: {path}")
            subprocess.run(["rm", "-rf", path], check=True)  # reported once
        if list(self.ground.machine.cgroups_left()):
            # Those of a killed build go with the next build that makes a step.
            self.check_answer(self.works["build"][-1], fault)
            for what in self.ground.machine.cgroups_left():
                self.figures.add(Wrong.LEFT, f"{fault}: {what}")

    def check_store(self, fault: str) -> None:
        """fsck finds no damage, and what an interrupted command has left in the store goes with the next gc."""
        damaged, _ = self._fsck(fault)
        collected = self.site.pybuild.run("gc")
        if collected.status:
            self.figures.add(Wrong.ENDED, f"{fault}: gc: {collected.err}")
        damaged_later, over = self._fsck(fault)
        if damaged or damaged_later or over:
            self.figures.add(Wrong.DAMAGED, f"{fault}: {damaged}, then {damaged_later} damaged and {over} left over")

    def check_answer(self, work: Work, fault: str, site: Site | None = None) -> None:
        """The work succeeds and makes what it makes in an undisturbed store. `site` starts its command in another way."""
        done, answer = work.run(site or self.site)
        if answer is None:
            self.figures.add(Wrong.ENDED, f"{fault}, then {work.name}: status {done.status}: {done.err[-2000:]}")
            return
        self.compare(work, answer, fault)

    def compare(self, work: Work, answer: Answer, fault: str) -> None:
        """Count an answer that is not the right one."""
        right = self.ground.answers[work.name]
        if answer.image != right.image:
            self.figures.add(Wrong.OTHER, f"{fault}: {work.name} gave {answer.image} instead of {right.image}")
        elif answer.blobs != right.blobs:
            self.figures.other_blobs += 1

    def check_end(self, done: Done, allowed: Sequence[int], fault: str) -> None:
        """A command that was disturbed ends with one of these statuses, and without a traceback."""
        if done.status not in allowed:
            self.figures.add(Wrong.ENDED, f"{fault}: status {done.status}: {done.err[-2000:]}")
        if "Traceback" in done.err and not _while_python_starts(done.err):
            self.figures.add(Wrong.ENDED, f"{fault}: a traceback: {done.err[-2000:]}")

    def _fsck(self, fault: str) -> tuple[int, int]:
        """How much fsck finds damaged and left over."""
        done = self.site.pybuild.run("fsck")
        counts = _COUNTS.search(done.out)
        if counts is None:
            self.figures.add(Wrong.ENDED, f"{fault}: fsck: status {done.status}: {done.out}{done.err}")
            return 0, 0
        if counts[2] != "0":
            print(done.out, flush=True)
        return int(counts[2]), int(counts[3])
