"""What the benchmark says of its runs: the memory of whole trees, ratios turn by turn."""

from __future__ import annotations

import json
import subprocess
import sys
from subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

from bench import measure, report
from bench.__main__ import take_turns
from bench.row import Contender, Row, floor, shell

if TYPE_CHECKING:
    from pathlib import Path

_INNER = "held = b'x' * (40 << 20); print('there', flush=True); input()"
_OUTER = f"import subprocess, sys; held = b'x' * (30 << 20); subprocess.run([sys.executable, '-c', {_INNER!r}])"


def _python(code: str) -> Contender:
    return Contender("pybuild", (sys.executable, "-c", code))


def test_memory_is_that_of_all_processes_together() -> None:
    with subprocess.Popen([sys.executable, "-c", _OUTER], stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        held = measure.memory_of_trees([process.pid])
        process.communicate(b"\n")
    assert 70 << 20 <= held < 140 << 20


def test_a_part_of_a_pipe_that_fails_is_told() -> None:
    with pytest.raises(measure.Failed, match="floor: status 3"):
        measure.timed(floor("(exit 3) | cat"))


def test_ratios_are_taken_turn_by_turn(tmp_path: Path) -> None:
    row = Row("name", "what", (_python(""), floor("")), aim=2.5)
    ours = tuple(measure.Sample(seconds, seconds) for seconds in (2.0, 30.0, 8.0))
    theirs = tuple(measure.Sample(seconds, seconds) for seconds in (1.0, 10.0, 2.0))
    results = [report.Result(row, "pybuild", ours, 5 << 20), report.Result(row, "floor", theirs, None)]
    assert [line.split() for line in report.table(results)] == [
        ["name", "pybuild", "8.000", "8.000", "3.00", "5", "what;", "aim:", "2.5", "x", "floor"],
        ["name", "floor", "2.000", "2.000", "1.00"],
    ]
    report.write(tmp_path / "results.json", results, own_disk=False)
    assert [r["ratio"] for r in json.loads((tmp_path / "results.json").read_text())["results"]] == [3.0, 1.0]


def test_a_peer_that_fails_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    once = shell("now and then", f"test ! -e {tmp_path}/again; touch {tmp_path}/again")
    row = Row("name", "what", (_python(""), once, shell("never", "exit 3"), shell("always", ":"), floor("")))
    found = take_turns(row, 2, memory=True)
    assert {result.contender: len(result.samples) for result in found} == {"pybuild": 2, "always": 2, "floor": 2}
    assert all(result.peak is not None for result in found)
    said = capsys.readouterr().err
    assert "name: left out: now and then: status 1" in said and "name: left out: never: status 3" in said


def test_a_row_without_its_floor_is_none() -> None:
    with pytest.raises(measure.Failed, match="floor: status 3"):
        take_turns(Row("name", "what", (_python(""), floor("exit 3"))), 1, memory=False)
