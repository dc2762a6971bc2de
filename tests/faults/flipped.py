"""Flipped bits, truncated and missing files in blobs, tables of contents, trees and the database.

After each, one work either gives the right answer or fails with a clear error; `fsck --deep` finds what is wrong, unless
the work has repaired or replaced it; and `fsck --repair` leads back to a store that gives right answers.
"""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.figures import Wrong
from tests.faults.works import stock

if TYPE_CHECKING:
    from random import Random

    from tests.faults.figures import Budget
    from tests.faults.trial import Trial
    from tests.support.cli import Done

VERBS = ("build", "build", "export")
PARTS = ("blobs", "blobs", "blobs", "tocs", "trees", "trees", "metadata.db")


def run(trial: Trial, budget: Budget) -> None:
    """Damage one file, round after round."""
    for _ in budget.spend(trial.figures):
        _fill(trial)
        part = trial.random.choice(PARTS)
        path = trial.random.choice(_files(trial.site.store / part))
        fault = f"{_harm(path, trial.random)} in {path.relative_to(trial.site.store)}"
        trial.figures.count(part)
        _use(trial, fault)
        found = trial.site.pybuild.run("fsck", "--deep")
        trial.check_end(found, (0, 1), f"{fault}: fsck --deep")
        trial.figures.count("found by fsck" if found.status else "harmless or replaced by then")
        if found.status == 0 and part in ("blobs", "tocs") and _still_harmed(trial, path):
            trial.figures.add(Wrong.DAMAGED, f"{fault}: fsck does not find it")
        _lead_back(trial, fault)
        stock(trial.site, trial.ground.given)
        trial.check(trial.draw(VERBS), fault)


def _fill(trial: Trial) -> None:
    """Give the store objects of all kinds."""
    for command in (trial.works["build"][0].arguments, trial.works["build"][1].arguments):
        trial.site.pybuild(*command)


def _files(place: Path) -> list[Path]:
    """The regular files below a directory that are not empty, or the file itself."""
    if place.is_file():
        return [place]
    found = []
    for directory, _, names in os.walk(place):
        paths = [Path(directory, name) for name in names]
        found += [path for path in paths if stat.S_ISREG(path.lstat().st_mode) and path.lstat().st_size]
    return sorted(found)


def _harm(path: Path, random: Random) -> str:
    """Flip a bit, or cut the file, or remove it; its times stay, as on a disk that loses data. Returns what was done."""
    status = path.stat()
    what = random.choices(["a flipped bit", "a cut", "a loss"], [8, 1, 1])[0]
    if what == "a loss" and path.name != "metadata.db":
        path.unlink()
        return what
    if what == "a cut":
        os.truncate(path, random.randrange(status.st_size))
    else:
        position = random.randrange(status.st_size)
        with open(path, "r+b") as file:
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ 1 << random.randrange(8)]))
        what = f"a flipped bit at {position}"
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return what


def _use(trial: Trial, fault: str) -> None:
    """A work on the damaged store is right, or refused; a RUN on a damaged tree can fail in its own way."""
    work = trial.draw(VERBS)
    done, answer = work.run(trial.site)
    if answer is None:
        trial.check_end(done, (1,), f"{fault}: {work.name}")
        trial.figures.count("refused")
        if "error: " not in done.err:
            trial.figures.add(Wrong.ENDED, f"{fault}: {work.name}: no error line: {done.err[-1000:]}")
    else:
        trial.compare(work, answer, f"{fault}: used by {work.name}")


def _still_harmed(trial: Trial, path: Path) -> bool:
    """Whether the file, which no command has replaced, is not what its name says: a blob."""
    if path.parent.name != "sha256":
        return False
    if not path.exists():
        return False  # its row is gone too, or fsck would miss it
    digest = subprocess.run(["sha256sum", path], check=True, capture_output=True, text=True).stdout.split()[0]
    return digest != path.name


def _lead_back(trial: Trial, fault: str) -> None:
    """fsck --repair mends the store. If it says that only a new store helps, reset leads to one."""
    repaired: Done = trial.site.pybuild.run("fsck", "--deep", "--repair")
    trial.check_end(repaired, (0, 1), f"{fault}: fsck --repair")
    if repaired.status == 0 and trial.site.pybuild.run("fsck", "--deep").status == 0:
        return
    if "reset" in repaired.err:
        trial.figures.count("reset")
        if trial.site.pybuild.run("reset").status == 0:
            return
    trial.figures.add(Wrong.DAMAGED, f"{fault}: fsck --repair: {repaired.out[-1000:]}{repaired.err[-1000:]}")
    subprocess.run(["rm", "-rf", trial.site.store], check=True)
