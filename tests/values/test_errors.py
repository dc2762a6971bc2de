"""Errors never change; who knows more makes another one of them."""

from __future__ import annotations

import pytest

from pybuild.values.errors import PybuildError


@pytest.mark.parametrize(
    ("hint", "more", "result"),
    [
        (None, "", None),
        (None, "look there", "look there"),
        ("look here", "", "look here"),
        ("look here", "or there", "look here; or there"),
        ("is it on?", "look there", "is it on? look there"),
    ],
)
def test_advice_is_added_at_the_end(hint: str | None, more: str, result: str | None) -> None:
    error = PybuildError("it fails", hint=hint)
    advised = error.advising(more)
    assert (str(advised), advised.hint, error.hint) == ("it fails", result, hint)
