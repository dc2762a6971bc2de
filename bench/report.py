"""Writes the results as a table and as a JSON file."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.measure import Sample
    from bench.row import Row

_LINE = "{:<10} {:<18} {:>9} {:>9} {:>9} {:>9}  {}"


@dataclass(frozen=True, slots=True)
class Result:
    """The measurements of one contender in one row."""

    row: Row
    contender: str
    samples: tuple[Sample, ...]
    peak: int | None  # bytes; None if it was not measured

    @property
    def seconds(self) -> float:
        return statistics.median(sample.seconds for sample in self.samples)

    @property
    def cpu(self) -> float:
        return statistics.median(sample.cpu for sample in self.samples)


def header() -> str:
    """The first line of the table."""
    return _LINE.format("row", "who", "seconds", "cpu", "x floor", "peak MiB", "")


def table(results: Sequence[Result]) -> Iterator[str]:
    """The lines of one row."""
    first = results[0].row
    for result in results:
        peak = "" if result.peak is None else str(result.peak >> 20)
        ratio, note = _ratio(result, results), ""
        if result.contender == "pybuild":
            note = first.what
            if first.aim is not None:
                note += f"; aim: {first.aim} x floor"
            if first.limit is not None:
                note += f"; aim: {first.limit} s"
        figures = (f"{result.seconds:.3f}", f"{result.cpu:.3f}", "" if ratio is None else f"{ratio:.2f}", peak)
        yield _LINE.format(first.name, result.contender, *figures, note).rstrip()


def write(path: Path, results: Sequence[Result], *, own_disk: bool) -> None:
    """Write all figures, with a description of the machine."""
    rows = []
    for result in results:
        of_row = [other for other in results if other.row is result.row]
        rows.append(
            {
                "row": result.row.name,
                "contender": result.contender,
                "seconds": [round(sample.seconds, 4) for sample in result.samples],
                "cpu": [round(sample.cpu, 4) for sample in result.samples],
                "median": round(result.seconds, 4),
                "ratio": _ratio(result, of_row),
                "peak": result.peak,
            }
        )
    path.write_text(json.dumps({"machine": _machine(), "own_disk": own_disk, "results": rows}, indent=1) + "\n")


def _ratio(result: Result, of_row: Sequence[Result]) -> float | None:
    """The median of the ratios to the floor in each turn: a load on the machine slows both in the same turn."""
    floor = next((other for other in of_row if other.contender == "floor"), None)
    if floor is None:
        return None
    pairs = zip(result.samples, floor.samples, strict=False)  # a slow peer has fewer
    return round(statistics.median(ours.seconds / theirs.seconds for ours, theirs in pairs), 3)


def _machine() -> dict[str, object]:
    return {
        "date": datetime.date.today().isoformat(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg(),
        "commit": _commit(),
    }


def _commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True)
    return done.stdout.decode().strip()
