"""Measure the given rows, or all of them. `make bench` installs the tools that this needs."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench import measure, report
from bench.workloads import ROWS
from bench.world import World

if TYPE_CHECKING:
    from bench.row import Row

_SLOW = 20.0  # seconds; a peer that takes longer is measured only twice
CHECKOUT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Measure the rows one after another. The contenders of a row alternate, so that all meet the same machine load."""
    arguments = _arguments()
    measure.adopt_orphans()
    results: list[report.Result] = []
    with World(arguments.directory, peers=arguments.peers) as world:
        print(report.header(), flush=True)
        for name in arguments.rows or ROWS:
            row = ROWS[name](world)
            row = replace(row, contenders=tuple(one for one in row.contenders if arguments.peers or not one.is_peer))
            found = take_turns(row, arguments.runs, memory=arguments.memory)
            print("\n".join(report.table(found)), flush=True)
            results += found
    report.write(arguments.json, results, own_disk=world.own_disk)


def take_turns(row: Row, runs: int, *, memory: bool) -> list[report.Result]:
    """Measure a row. A peer that fails is left out with a message; raises Failed if pybuild or the floor fails."""
    samples: dict[str, list[measure.Sample]] = {contender.name: [] for contender in row.contenders}
    peaks: dict[str, int | None] = dict.fromkeys(samples)
    for turn in range(runs + memory):
        # The first contender changes, so that none always runs after the same neighbour and its caches.
        start = turn % len(row.contenders)
        for contender in row.contenders[start:] + row.contenders[:start]:
            name = contender.name
            if name not in samples or (1 < turn < runs and contender.is_peer and samples[name][0].seconds > _SLOW):
                continue
            try:
                if turn < runs:
                    samples[name].append(measure.timed(contender, row.traffic))
                else:
                    peaks[name] = measure.peak_memory(contender)
            except measure.Failed as error:
                if not contender.is_peer:
                    raise
                print(f"{row.name}: left out: {error}", file=sys.stderr)
                del samples[name]
    return [report.Result(row, name, tuple(found), peaks[name]) for name, found in samples.items()]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], metavar="ROW", help=f"one or more of {', '.join(ROWS)}")
    parser.add_argument("-n", "--runs", type=int, default=5, help="timed runs of each contender [5]")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="skip the run that measures peak memory")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="measure only pybuild and the floor")
    parser.add_argument("--directory", type=Path, default=CHECKOUT / ".bench", help="directory of the workloads")
    parser.add_argument("--json", type=Path, help="file for the results [results.json in that directory]")
    arguments = parser.parse_args()
    arguments.directory = arguments.directory.resolve()
    arguments.json = arguments.json or arguments.directory / "results.json"
    return arguments


if __name__ == "__main__":
    main()
