"""A clock that jumps: commands that believe in another year, between others that do not. faketime(1) changes no clock."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.figures import Budget
    from tests.faults.trial import Trial

VERBS = ("build", "build", "pull", "import", "export", "gc")
JUMPS = ("-1y", "+10y", "-30y", "+1d", "-3h", "+0 x1000", "+0 x0.01")  # xN: a clock that runs N times as fast


def run(trial: Trial, budget: Budget) -> None:
    """Run a work under another clock, round after round."""
    for _ in budget.spend(trial.figures):
        work = trial.draw(VERBS)
        jump = trial.random.choice(JUMPS)
        fault = f"{work.name} at {jump}"
        command = trial.site.command
        moved = replace(trial.site, command=replace(command, command=("faketime", "-f", jump, *command.command)))
        work.prepare(moved if trial.random.random() < 0.5 else trial.site)
        trial.check_answer(work, fault, moved)
        trial.check(work, f"after {fault}")
