"""Sixteen builds side by side on one store, 8 of one recipe and 8 of others, while gc runs again and again."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.faults.figures import Wrong
from tests.faults.works import Answer, build_work

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.faults.figures import Budget
    from tests.faults.trial import Trial
    from tests.faults.works import Command, Site

SAME, DIFFERENT = 8, 8


def run(trial: Trial, budget: Budget) -> None:
    """Build all at once, round after round."""
    _run(trial, budget, SAME, DIFFERENT)


def run_small(trial: Trial, budget: Budget) -> None:
    """The same with fewer builds."""
    _run(trial, budget, 2, 2)


def _run(trial: Trial, budget: Budget, alike: int, different: int) -> None:
    """The first build of a recipe decides which image is right."""
    images: dict[int, Answer] = {}
    for _ in budget.spend(trial.figures):
        contexts = trial.ground.given.contexts
        same = trial.random.randrange(len(contexts))
        numbers = [same] * alike + [len(contexts) + other for other in range(different)]
        commands = [
            build_work(trial.site, number, contexts[number % len(contexts)], cached=True).arguments
            for number in numbers
        ]
        for name in {f"app{number}" for number in numbers}:
            trial.site.pybuild.run("rmi", name)
        trial.site.pybuild.run("gc", "--all")
        with side_by_side(trial, commands) as answers:
            pass
        for number, answer in zip(numbers, answers, strict=True):
            if answer is not None:
                _compare(trial, number, images.setdefault(number, answer), answer)
        trial.check(trial.works["build"][same], f"{len(numbers)} builds side by side, recipe {same}")


def _compare(trial: Trial, number: int, first: Answer, answer: Answer) -> None:
    if answer.image != first.image:
        trial.figures.add(Wrong.OTHER, f"recipe {number} gave {answer.image}, and {first.image} before")
    elif answer.blobs != first.blobs:
        trial.figures.other_blobs += 1


@contextmanager
def side_by_side(trial: Trial, commands: Sequence[Command]) -> Iterator[list[Answer | None]]:
    """Start these builds, and gc again and again as long as one of them runs after the block.

    When the block is left, the list has their answers, or None for one that failed.
    """
    site = trial.site
    directory = site.place / "side-by-side"
    directory.mkdir(exist_ok=True)
    answers: list[Answer | None] = []
    started = []
    for place, command in enumerate(commands):
        with open(directory / f"{place}.out", "wb") as out, open(directory / f"{place}.err", "wb") as err:
            started.append(_start(site, (*command, "--iidfile", directory / f"{place}.id"), out.fileno(), err.fileno()))
    yield answers
    while any(process.poll() is None for process in started):
        collected = site.pybuild.run("gc", *trial.random.choice([(), ("--all",), ("--all",)]))
        trial.figures.count("gc beside builds")
        trial.check_end(collected, (0,), "gc beside builds")
    answers += [_answer(trial, directory, place, process.returncode) for place, process in enumerate(started)]


def _start(site: Site, command: Command, out: int, err: int) -> subprocess.Popen[bytes]:
    pybuild = site.pybuild
    return subprocess.Popen(
        [*pybuild.command, *map(str, command)], env=pybuild.env(), stdin=subprocess.DEVNULL, stdout=out, stderr=err
    )


def _answer(trial: Trial, directory: Path, place: int, status: int) -> Answer | None:
    if status:
        said = (directory / f"{place}.err").read_text(errors="replace")
        trial.figures.add(Wrong.ENDED, f"a build beside others: status {status}: {said[-2000:]}")
        return None
    return Answer((directory / f"{place}.id").read_text(), (directory / f"{place}.out").read_text().strip())
