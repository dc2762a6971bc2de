"""pybuild logs, and the files and exit statuses for scripts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli import BASE, Pybuild, write_context

RECIPE = f"FROM {BASE}\nRUN echo one; printf '\\377'\nRUN echo two; exit 42\n"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write_context(tmp_path / "context", RECIPE)


def test_the_log_of_the_last_build(pybuild: Pybuild, context: Path) -> None:
    pybuild.refused("-q", "--network=none", context)
    message = pybuild("logs").out.splitlines()
    assert [line for line in message if not line.startswith(("build ", "step "))] == [
        "one", "�", "two", "error: RUN exited with status 42",
    ]  # fmt: skip
    assert [line.partition(":")[0] for line in message if line.startswith("step ")] == ["step 1", "step 2"]
    assert pybuild("logs", "last", 2).out == "two\n"
    events = [json.loads(line) for line in pybuild("logs", "--json").out.splitlines()]
    assert (events[0]["event"], events[-1]["event"], events[-1]["status"]) == ("build_started", "build_failed", 42)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    (context / "Buildfile").write_text(f"FROM {BASE}\n")
    pybuild("-q", context)
    listed = [json.loads(line) for line in pybuild("logs", "--list", "--json").out.splitlines()]
    assert [build["state"] for build in listed] == ["done", "failed"]
    assert pybuild("logs", listed[1]["build"], 2).out == "two\n"
    assert "nosuch is neither the id of a build nor an image" in pybuild.refused("logs", "nosuch")


def test_lines_that_a_power_cut_has_damaged_are_left_out(pybuild: Pybuild, context: Path) -> None:
    pybuild.refused("-q", "--network=none", context)
    (events,) = pybuild.root.glob("logs/*/events")
    whole = events.read_bytes()
    shown = pybuild("logs").out
    step = b'{"event":"step_failed","node":"../events","stage":"s","number":1,"total":1,"seconds":0,"instruction":"x"}\n'
    events.write_bytes(bytes(100) + b"\n" + whole + b'[]\n{"event":"step_finished"}\n{"event":7}\n{"no\n' + step)
    assert pybuild("logs").out == shown
    assert json.loads(pybuild("logs", "--list", "--json").out)["state"] == "failed"


def test_a_log_that_cannot_be_written_costs_a_note(pybuild: Pybuild, context: Path) -> None:
    (context / "Buildfile").write_text(f"FROM {BASE}\nRUN echo one\n")
    (pybuild.root / "logs").rmdir()
    (pybuild.root / "logs").symlink_to("/proc")
    assert "note: the log of this build is incomplete: " in pybuild("--network=none", context).err


def test_files_for_scripts(tmp_path: Path, pybuild: Pybuild, context: Path) -> None:
    ids, metadata = tmp_path / "id", tmp_path / "metadata.json"
    files = ("--iidfile", ids, "--metadata-file", metadata, "--network=none")
    (context / "Buildfile").write_text(f"FROM {BASE}\nRUN true\n")
    digest = pybuild("-t", "app", *files, context).out.strip()
    printed = json.loads(metadata.read_text())
    inspected = json.loads(pybuild("inspect", "app").out)
    assert ids.read_text() == printed["containerimage.config.digest"] == inspected["manifest"]["config"]["digest"]
    assert printed["containerimage.digest"] == printed["containerimage.descriptor"]["digest"] == digest
    assert printed["image.name"].endswith("/app:latest")
    (context / "Buildfile").write_text(RECIPE)
    pybuild.refused(*files, context)
    assert not ids.exists()
    error = json.loads(metadata.read_text())["pybuild.error"]
    assert (error["status"], error["line"], error["message"]) == (42, 3, "RUN exited with status 42")
    assert "is not a directory" in pybuild.refused("--iidfile", tmp_path / "no/such", context)


def test_the_exit_status_of_a_run(pybuild: Pybuild, context: Path) -> None:
    pybuild.refused("--exit-code=run", context, status=42)
    (context / "Buildfile").write_text(f"FROM {BASE}\nCOPY nosuch /\n")
    pybuild.refused("--exit-code=run", context, status=1)
