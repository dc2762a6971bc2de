"""Steps that take all they can get: processes, memory, disk; each beside other builds, which notice nothing."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.faults.crowd import side_by_side
from tests.faults.figures import Wrong
from tests.faults.works import VARIANTS
from tests.support.cli import BASE, Pybuild, write_context
from tests.support.overlays import in_private_mounts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.figures import Budget
    from tests.faults.trial import Trial
    from tests.support.cli import Done

_BOMB = "b() { b | b & }; b; i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; cat /proc/self/stat"
_HOG = "dd if=/dev/zero of=/dev/null bs=300M count=1"
_FILL = "dd if=/dev/zero of=/big bs=1M count=200"
_DISK = 48 << 20  # bytes
_BESIDE = 2  # other builds at the same time


def run(trial: Trial, budget: Budget) -> None:
    """One greedy step after another."""
    kinds: list[Callable[[Trial, Path], None]] = [_bomb, _hog, _full_disk]
    for number in budget.spend(trial.figures):
        directory = trial.site.place / "greedy"
        directory.mkdir(exist_ok=True)
        greedy = kinds[number % len(kinds)]
        others = trial.random.sample(trial.works["build"][-VARIANTS:], _BESIDE)
        with side_by_side(trial, [other.arguments for other in others]) as answers:
            greedy(trial, directory)
        for other, answer in zip(others, answers, strict=True):
            if answer is not None:
                trial.compare(other, answer, f"beside {greedy.__name__}")
        trial.check(others[0], greedy.__name__)
        subprocess.run(["rm", "-rf", directory], check=True)


def _bomb(trial: Trial, directory: Path) -> None:
    """A fork bomb under --pids-limit. Whether the shell itself gets a process decides how the step ends."""
    context = write_context(directory / "bomb", f"FROM {BASE}\nRUN {_BOMB}\n")
    done = trial.site.pybuild.run("--network=none", "--no-cache", "--pids-limit=30", context)
    trial.check_end(done, (0, 1), "a fork bomb")
    if done.status and "Buildfile:2:1: error: RUN " not in done.err:
        trial.figures.add(Wrong.ENDED, f"a fork bomb: {done.err[-1000:]}")


def _hog(trial: Trial, directory: Path) -> None:
    context = write_context(directory / "hog", f"FROM {BASE}\nRUN {_HOG}\n")
    done = trial.site.pybuild.run("--network=none", "--no-cache", "--memory=64m", context)
    trial.check_end(done, (1,), "a memory hog")
    if "out of memory, limit 64 MiB" not in done.err:
        trial.figures.add(Wrong.ENDED, f"a memory hog: {done.err[-1000:]}")


def _full_disk(trial: Trial, directory: Path) -> None:
    """A step that fills the small filesystem of its store; afterwards a build that needs little passes there."""
    image, place = directory / "disk", directory / "mounted"
    with open(image, "wb") as file:
        file.truncate(_DISK)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    place.mkdir()
    full = write_context(directory / "full", f"FROM {BASE}\nRUN {_FILL}\n")
    small = write_context(directory / "small", f"FROM {BASE}\nRUN echo small > /small\n")

    def work() -> object:
        subprocess.run(["mount", "-o", "loop", image, place], check=True)
        command = Pybuild(place / "store", trial.site.pybuild.environment)

        def ran(*arguments: object) -> tuple[int, str, str]:
            done: Done = command.run(*arguments)
            return done.status, done.out, done.err

        commands = [
            ("import", trial.ground.given.base),
            ("--network=none", full),
            ("fsck",),
            ("--network=none", small),
            ("fsck",),
        ]
        return [ran(*arguments) for arguments in commands]

    found = in_private_mounts(work)
    assert isinstance(found, list)
    (_, filled, checked, built, again) = found
    if filled[0] != 1 or "o space left" not in filled[2] or "Traceback" in filled[2]:
        trial.figures.add(Wrong.ENDED, f"a full disk: {filled}")
    if built[0]:
        trial.figures.add(Wrong.ENDED, f"a build after a full disk: {built}")
    for report in (checked, again):
        if " 0 damaged, 0 left over" not in report[1]:
            trial.figures.add(Wrong.DAMAGED, f"a full disk: {report}")
