"""What a kind of fault has led to: its counts, what was seen, and the table of all kinds."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Wrong(Enum):
    """What must not happen. Each is a column of the table, and a count above 0 is a failure."""

    DAMAGED = "damaged"  # fsck finds damage, or left-over files that gc does not remove
    LEFT = "left"  # a process, mount, cgroup or file that the command made is still there
    OTHER = "other digest"  # the same work has given another image
    ENDED = "wrong end"  # a traceback, another exit status than promised, an error without a place, a refusal


@dataclass
class Figures:
    """The counts of one kind of fault."""

    kind: str
    rounds: int = 0
    seconds: float = 0.0
    other_blobs: int = 0  # layers with the same content in another compressed form: docs/dev/decisions/0004
    counts: dict[Wrong, int] = field(default_factory=lambda: dict.fromkeys(Wrong, 0))
    seen: list[str] = field(default_factory=list)  # a line for each thing that went wrong
    more: dict[str, int] = field(default_factory=dict)  # counts that only this kind has

    def add(self, wrong: Wrong, what: str) -> None:
        """Count it, and say what it is at once: an hour is long."""
        self.counts[wrong] += 1
        self.seen.append(f"{self.kind}, round {self.rounds}, {wrong.value}: {what}")
        print(self.seen[-1], flush=True)

    def count(self, name: str, number: int = 1) -> None:
        """Add to a count that only this kind has."""
        self.more[name] = self.more.get(name, 0) + number

    @property
    def clean(self) -> bool:
        return self.rounds > 0 and not any(self.counts.values())


@dataclass(frozen=True)
class Budget:
    """How often a fault is tried: `rounds` times, but no new round begins after `seconds`."""

    rounds: int
    seconds: float

    def spend(self, figures: Figures) -> Iterator[int]:
        """The numbers of the rounds; `figures` learns how many there were and how long they took."""
        start = time.monotonic()
        for number in range(self.rounds):
            figures.seconds = time.monotonic() - start
            if figures.seconds > self.seconds:
                break
            figures.rounds += 1
            yield number
        figures.seconds = time.monotonic() - start


def table(found: Sequence[Figures]) -> str:
    """All figures, one kind a line."""
    heads = ["kind", "rounds", *(wrong.value for wrong in Wrong), "other blob", "seconds"]
    rows = [
        [one.kind, one.rounds, *(one.counts[wrong] for wrong in Wrong), one.other_blobs, round(one.seconds)]
        for one in found
    ]
    text = [heads, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in text) for column in range(len(heads))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in text
    ]
    more = [
        f"{one.kind}: {', '.join(f'{count} {name}' for name, count in one.more.items())}" for one in found if one.more
    ]
    return "\n".join([*lines, *([""] if more else []), *more])
