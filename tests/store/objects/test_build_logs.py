"""Build logs are limited in size, number and age, and never fail a build."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pybuild.store.objects.build_logs import BuildLog, build_logs, prune


def write(logs: Path, name: str, *outputs: bytes) -> None:
    log = BuildLog(str(logs), name)
    for step, data in enumerate(outputs):
        log.output(step, data)
    log.close()


def names(logs: Path) -> list[str]:
    return [log.build for log in build_logs(str(logs))]


def test_a_log_keeps_events_and_the_bytes_of_each_step(tmp_path: Path) -> None:
    log = BuildLog(str(tmp_path), "a")
    log.event(b"one")
    log.output(7, b"\xff\x00")
    log.output(8, b"other")
    log.output(7, b"more")
    found = build_logs(str(tmp_path))[0]
    assert found.running
    log.close()
    assert (found.running, found.events(), found.size(9)) == (False, [b"one\n"], 0)
    assert [found.open(step).read() for step in (7, 8)] == [b"\xff\x00more", b"other"]


@pytest.mark.parametrize("pieces", [[b"12345", b"67890", b"x", b"y"], [b"1234567890xy"], [b"1234567", b"890xy", b"z"]])
def test_output_beyond_the_limit_is_dropped_with_a_note(tmp_path: Path, pieces: list[bytes]) -> None:
    log = BuildLog(str(tmp_path), "a", limit=10)
    for piece in pieces:
        log.output(1, piece)
    log.close()
    assert build_logs(str(tmp_path))[0].open(1).read() == b"1234567890\n[the log of a step ends at 10 bytes]\n"


def test_output_of_exactly_the_limit_is_kept(tmp_path: Path) -> None:
    log = BuildLog(str(tmp_path), "a", limit=10)
    log.output(1, b"1234567890")
    log.close()
    assert build_logs(str(tmp_path))[0].open(1).read() == b"1234567890"


def test_the_oldest_logs_are_removed_first(tmp_path: Path) -> None:
    for name in "abcd":
        write(tmp_path, name, b"x" * 100)
    assert prune(str(tmp_path), builds=3, dry_run=True) == (1, 100)
    assert prune(str(tmp_path), builds=3) == (1, 100)
    assert names(tmp_path) == ["d", "c", "b"]
    assert prune(str(tmp_path), size=250) == (1, 100)
    assert names(tmp_path) == ["d", "c"]
    os.utime(tmp_path / "c", (0, 0))
    prune(str(tmp_path))
    assert names(tmp_path) == ["d"]


def test_logs_of_builds_before_the_oldest_stored_build_are_removed(tmp_path: Path) -> None:
    for name in "abcd":
        write(tmp_path, name, b"x" * 100, b"y")
    assert prune(str(tmp_path), since="") == (0, 0)
    assert prune(str(tmp_path), since="bb") == (2, 202)
    assert names(tmp_path) == ["d", "c"]
    assert [log.total() for log in build_logs(str(tmp_path))] == [101, 101]


def test_the_log_of_a_running_build_stays(tmp_path: Path) -> None:
    log = BuildLog(str(tmp_path), "a")
    log.output(1, b"x")
    assert prune(str(tmp_path), builds=0) == (0, 0)
    log.close()
    assert prune(str(tmp_path), builds=0) == (1, 1)
    assert names(tmp_path) == []


def test_a_log_that_cannot_be_written_raises_no_error(tmp_path: Path) -> None:
    log = BuildLog(str(tmp_path), "a")
    os.symlink("/dev/full", tmp_path / "a/1.log")  # must not be followed
    log.output(1, b"x")
    assert log.failure == "File exists"
    log.event(b"nobody minds")
    log.close()
