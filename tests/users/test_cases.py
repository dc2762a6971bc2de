"""What people bring from elsewhere gives here what it gives there. The cases are the lists in tests/users/cases."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import SCRIPT
from tests.users.case import CASES, UserCase, read_cases

if TYPE_CHECKING:
    from tests.support.people import Person

_TIME = 1_600_000_000
ALL = [(path.stem, case) for path in sorted(CASES.glob("*.toml")) for case in read_cases(path)]
# `make users` runs each case as each of its people; otherwise one of them runs it, another one for the next case.
EVERYBODY = "PYBUILD_EVERYBODY" in os.environ
RUNS = [
    pytest.param(case, person, id=f"{subject}: {case.name} ({person})")
    for number, (subject, case) in enumerate(ALL)
    for person in (case.people if EVERYBODY else (case.people[number % len(case.people)],))
]


@pytest.mark.parametrize(("case", "person"), RUNS, indirect=["person"])
def test_a_case_gives_what_its_list_says(case: UserCase, person: Person) -> None:
    context = make_context(case, person)
    done = run_as(person, context, f"{case.prepare}\n{case.command}")
    complaint = case.complaint(done.returncode, done.stdout.decode("utf-8", "replace"))
    if complaint:
        pytest.fail(f"{complaint}\n{done.stdout.decode('utf-8', 'replace')}", pytrace=False)


def make_context(case: UserCase, person: Person) -> Path:
    """The files of a case in a directory of that person, with fixed modes and times."""
    directory = person.home / "context"
    directory.mkdir()
    for name, text in {**({"Dockerfile": case.recipe} if case.recipe else {}), **case.files}.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for path in (directory, *directory.rglob("*")):
        os.chown(path, person.uid, person.uid)
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (_TIME, _TIME))
    return directory


def run_as(person: Person, directory: Path, script: str) -> subprocess.CompletedProcess[bytes]:
    """Run shell commands as this person, with `pybuild` and `python` in the PATH."""
    environment = {**person.pybuild().env(), "PATH": f"{Path(SCRIPT).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        [*person.prefix, "sh", "-euc", f"cd {directory}\n{script}"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.mark.parametrize(
    ("status", "output", "complaint"),
    [
        (0, "one two", ""),
        (1, "one two", "exit status 1, expected 0"),
        (0, "two one", "the output lacks 'two' after the parts before it"),
        (0, "one", "the output lacks 'two'"),
        (0, "one two three", "the output contains 'three'"),
        (0, "one two Traceback", "a traceback"),
    ],
)
def test_a_case_sees_what_is_wrong(status: int, output: str, complaint: str) -> None:
    case = UserCase("a name", says=("one", "two"), never=("three",))
    assert case.complaint(status, output) == complaint


def test_no_behaviour_is_listed_twice() -> None:
    names = [case.name for _, case in ALL]
    assert len(names) == len(set(names))
