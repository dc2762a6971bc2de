"""The checks of doctor, and the fix that each names."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from pybuild.builder import doctor
from pybuild.builder.doctor import State
from pybuild.builder.host.id_map import Extent, IdMap, MapKind
from pybuild.builder.options import Snapshotter

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.people import Person

ONE = (Extent(0, 1000, 1),)


@pytest.mark.parametrize(
    ("release", "state"),
    [
        ("4.18.0-553.el8", State.FAIL),
        ("5.11", State.FAIL),
        ("5.12.1", State.NOTE),
        ("6.8.0-45", State.OK),
        ("7.1", State.OK),
    ],
)
def test_kernels(release: str, state: State) -> None:
    check = doctor._kernel(release)
    assert check.state is state
    assert bool(check.fix) is (state is not State.OK)


@pytest.mark.parametrize(
    ("missing", "fix"),
    [
        ("newuidmap is not installed", "apt-get install uidmap"),
        ("/etc/subuid gives me no ids that exist here", "usermod --add-subuids 300000-365535 --add-subgids 300000-365535"),
    ],
)
def test_a_single_id_is_a_note_with_the_command_that_adds_more(
    monkeypatch: pytest.MonkeyPatch, missing: str, fix: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(doctor, "free_range", lambda: (300_000, 365_535))
    check = doctor._ids(IdMap(MapKind.SINGLE, ONE, ONE, missing=missing))
    assert check.state is State.NOTE
    assert missing in check.found
    assert fix in check.fix


@pytest.mark.parametrize(
    "check",
    [doctor._overlay("Invalid argument", "/store", Snapshotter.OVERLAY), doctor._proc("Operation not permitted")],
)
def test_a_check_that_every_run_needs_fails_with_a_fix(check: doctor.Check) -> None:
    assert check.state is State.FAIL
    assert check.fix


def test_without_overlays_steps_run_in_copies(tmp_path: Path) -> None:
    check = doctor._overlay("Invalid argument", str(tmp_path))
    assert check.state is State.NOTE
    assert "copies" in check.found
    assert "-v NAME:/var/lib/pybuild" in check.fix


def test_no_check_fails_on_this_machine(person: Person) -> None:
    done = person.pybuild()("doctor", "--json")
    checks = {line["name"]: line for line in map(json.loads, done.out.splitlines())}
    assert list(checks) == [
        "kernel", "user namespaces", "ids", "overlay", "/proc", "isolation full", "isolation container", "isolation in-place", "network", "cgroups", "limits", "space", "processors", "emulators", "git",
    ]  # fmt: skip
    assert {name for name, check in checks.items() if check["state"] == "fail"} == set()
    person.pybuild().assert_whole()
