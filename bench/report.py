"""Writes the results as a table and as a JSON file."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.exchanges import Moved
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
    def moved(self) -> list[Moved]:
        """What each run has sent and received; nothing if that was not counted."""
        return [sample.moved for sample in self.samples if sample.moved is not None]

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
        ratio, notes = _ratio(result, results), []
        if result.contender == "pybuild":
            notes = [first.what, *_aims(first, _ratio(result, results, "buildkit"))]
        notes += _traffic(result.moved)
        figures = (f"{result.seconds:.3f}", f"{result.cpu:.3f}", "" if ratio is None else f"{ratio:.2f}", peak)
        yield _LINE.format(first.name, result.contender, *figures, "; ".join(notes)).rstrip()


def _traffic(moved: Sequence[Moved]) -> Iterator[str]:
    """The medians of bytes and requests, and the worst of the rest."""
    if not moved:
        return
    size, requests = (statistics.median(getattr(one, field) for one in moved) for field in ("bytes", "requests"))
    yield f"{size:,.0f} bytes in {requests:,.0f} requests"
    if (chain := max((one.chain for one in moved if one.chain is not None), default=None)) is not None:
        yield f"longest chain {chain}"
    if worst := [(one.layers, one.layer_bytes) for one in moved if one.layers is not None]:
        layers, size_of_layers = max(worst)
        yield "no byte of a layer" if not layers else f"{layers} layers with {size_of_layers:,} bytes"


def _aims(row: Row, to_buildkit: float | None) -> Iterator[str]:
    if to_buildkit is not None:
        yield f"{to_buildkit:.2f} x buildkit"
    if row.aim is not None:
        yield f"aim: {row.aim} x floor"
    if row.buildkit_aim is not None:
        yield f"aim: {row.buildkit_aim} x buildkit"
    if row.limit is not None:
        yield f"aim: {row.limit} s"
    if row.bytes_aim is not None:
        yield f"aim: {row.bytes_aim:,} bytes"
    if row.chain_aim is not None:
        yield f"aim: a chain of {row.chain_aim}"


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
                "to_buildkit": _ratio(result, of_row, "buildkit"),
                "moved": [asdict(one) for one in result.moved],
                "peak": result.peak,
            }
        )
    path.write_text(json.dumps({"machine": _machine(), "own_disk": own_disk, "results": rows}, indent=1) + "\n")


def _ratio(result: Result, of_row: Sequence[Result], base: str = "floor") -> float | None:
    """The median of the ratios to a contender in each turn: a load on the machine slows both in the same turn."""
    other = next((other for other in of_row if other.contender == base), None)
    if other is None:
        return None
    pairs = zip(result.samples, other.samples, strict=False)  # a slow peer has fewer
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
