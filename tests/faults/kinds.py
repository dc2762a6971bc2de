"""The kinds of faults, how often each is tried, and how its time compares with that of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.faults import killed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.figures import Budget
    from tests.faults.trial import Trial


@dataclass(frozen=True)
class Kind:
    """A kind of fault: `rounds` for `make faults`, `few` for `make test`; `share` is its part of the time."""

    name: str
    run: Callable[[Trial, Budget], None]
    rounds: int
    few: int
    share: float


KINDS = (Kind("killed", killed.run, 200, 3, 1.0),)
