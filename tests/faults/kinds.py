"""The kinds of faults, how often each is tried, and how its time compares with that of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.faults import clock, crowd, exhausted, flipped, injected, interrupted, killed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.figures import Budget
    from tests.faults.trial import Trial


@dataclass(frozen=True)
class Kind:
    """A kind of fault: `rounds` for `make faults`, `few` for `make test`; `share` is its part of the time.

    `small` is a lighter form of `run` for `make test`, if one round of `run` takes long.
    """

    name: str
    run: Callable[[Trial, Budget], None]
    rounds: int
    few: int
    share: float
    small: Callable[[Trial, Budget], None] | None = None


KINDS = (
    Kind("killed", killed.run, 200, 1, 4.0),
    Kind("interrupted", interrupted.run, 100, 2, 1.5),
    Kind("injected", injected.run, 200, 1, 6.0),
    Kind("crowd", crowd.run, 50, 1, 8.0, crowd.run_small),
    Kind("flipped", flipped.run, 500, 1, 9.0),
    Kind("clock", clock.run, 50, 1, 1.0),
    Kind("exhausted", exhausted.run, 30, 3, 1.0),
)
