"""Errors on the terminal."""

from __future__ import annotations

import os
import sys

import pytest

from pybuild import report
from pybuild.values.errors import PybuildError


def test_an_error_has_its_hint_on_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    report.show(PybuildError("it failed", hint="try again"))
    assert capsys.readouterr().err == "error: it failed\nhint: try again\n"


def test_an_error_that_cannot_be_printed_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.open("/dev/full", os.O_WRONLY), "w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        report.show(PybuildError("it failed"))
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space left"):  # the text is still buffered
            full.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
