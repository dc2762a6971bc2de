"""The hints of errors that come from the machine, while a step is set up."""

from __future__ import annotations

import errno

import pytest

from pybuild.builder.sandbox.report import hint_for


@pytest.mark.parametrize(
    ("doing", "number", "expected"),
    [
        ("prepare the sandbox", errno.EPERM, "pybuild doctor"),
        ("mount proc on /proc", errno.EPERM, "pybuild doctor"),
        ("mount overlay of 3 directories", errno.EINVAL, "--root"),
        ("mount overlay of 3 directories", errno.ENOSPC, None),
        ("enter the working directory /x", errno.EACCES, None),
        ("start the command", errno.EAGAIN, "limit of processes"),
    ],
)
def test_an_error_of_the_machine_says_where_to_look(doing: str, number: int, expected: str | None) -> None:
    hint = hint_for(doing, OSError(number, "x"))
    assert hint is None if expected is None else expected in str(hint)
