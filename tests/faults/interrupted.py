"""SIGINT and SIGTERM at random moments, to the main process or to its whole group, once or twice."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.faults.figures import Wrong
from tests.faults.started import Durations, started

if TYPE_CHECKING:
    from tests.faults.figures import Budget
    from tests.faults.trial import Trial
    from tests.faults.works import Work

VERBS = ("build", "build", "build", "fetch", "fetch", "pull", "import", "export", "gc")
SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = (
    30.0  # seconds until a command that was interrupted counts as hanging; on an idle machine it takes under one
)


def run(trial: Trial, budget: Budget) -> None:
    """Interrupt a work at a moment of its usual time, round after round."""
    durations = Durations(trial.site)
    longest = 0.0
    for _ in budget.spend(trial.figures):
        work = trial.draw(VERBS)
        number = trial.random.choice(SIGNALS)
        moment = trial.random.uniform(0, durations.of(work))
        group, times = trial.random.choice([(False, 1), (True, 1), (False, 2)])
        target = "the group" if group else "the main process"
        fault = f"{work.name}, {number.name} {times} times to {target} after {moment:.3f} s"
        work.prepare(trial.site)
        longest = max(longest, _interrupt(trial, work, number, moment, group, times, fault))
        trial.check(work, fault)
    trial.figures.count("ms until the slowest end", round(longest * 1000))


def _interrupt(
    trial: Trial, work: Work, number: signal.Signals, moment: float, group: bool, times: int, fault: str
) -> float:
    """Run a work and interrupt it; return how long it took to end."""
    with started(trial.site, work) as command:
        if command.ended_within(moment):
            trial.figures.count("ended before")
            return 0.0
        start = time.monotonic()
        for _ in range(times):
            with suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(command.pid, number)
        if not command.ended_within(_PATIENCE):
            trial.figures.add(Wrong.ENDED, f"{fault}: still running after {_PATIENCE} s")
            return _PATIENCE
        seconds = time.monotonic() - start
        done = command.end()
        # A signal that comes before Python runs ends the process as the kernel does it: a shell shows the same status.
        trial.check_end(done, (0, 128 + number, -number), fault)
        trial.figures.count("ended well" if done.status == 0 else "interrupted")
        return seconds
