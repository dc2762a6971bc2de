"""kill -9 at random moments: of the whole process group, of the main process alone, or of one of its workers."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.faults.started import Durations, started
from tests.support.processes import descendants

if TYPE_CHECKING:
    from tests.faults.figures import Budget
    from tests.faults.started import Started
    from tests.faults.trial import Trial
    from tests.faults.works import Work

VERBS = ("build", "build", "build", "fetch", "fetch", "pull", "import", "export", "gc")  # most rounds are builds
VICTIMS = ("the group", "the group", "the main process", "the main process", "a worker")
_TRIES = 20


def run(trial: Trial, budget: Budget) -> None:
    """Kill a work at a moment of its usual time, round after round."""
    durations = Durations(trial.site)
    for _ in budget.spend(trial.figures):
        work = trial.draw(VERBS)
        victim = trial.random.choice(VICTIMS)
        moment = _killed(trial, work, victim, durations.of(work))
        trial.figures.count(f"of {work.name.split()[0]}")
        trial.check(work, f"{work.name}, {victim} killed after {moment:.3f} s")


def _killed(trial: Trial, work: Work, victim: str, duration: float) -> float:
    """Run a work and kill it; return when. A work that ends before its moment has come is run again."""
    for _ in range(_TRIES):
        work.prepare(trial.site)
        moment = trial.random.uniform(0, duration)
        with started(trial.site, work) as command:
            if not command.ended_within(moment):
                alone = _kill(trial, command, victim)
                done = command.end()
                if not alone:
                    trial.check_end(done, (0, 1), f"{work.name}, {victim} killed after {moment:.3f} s")
                return moment
    raise AssertionError(f"{work.name} was never found running")


def _kill(trial: Trial, command: Started, victim: str) -> bool:
    """Kill the victim; return whether the main process was killed. It is if there is no worker yet."""
    if victim == "the group":
        os.killpg(command.pid, signal.SIGKILL)
        return True
    workers = descendants(command.pid) if victim == "a worker" else []
    for process in workers:
        os.close(process.fd)
    with suppress(ProcessLookupError):
        os.kill(trial.random.choice([process.pid for process in workers] or [command.pid]), signal.SIGKILL)
    return not workers
