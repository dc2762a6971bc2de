"""--isolation and PYBUILD_ISOLATION."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from pybuild.builder.options import Isolation
from pybuild.options.steps import parse_isolation
from tests.support.cli import Pybuild

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kind", Isolation)
def test_each_isolation_has_a_name(kind: Isolation) -> None:
    assert parse_isolation(kind.value) is kind


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("chroot", "--isolation chroot: expected one of full, container, in-place, auto"),
        ("", "--isolation : expected one of"),
    ],
)
def test_other_values_are_refused_in_words(value: str, said: str) -> None:
    with pytest.raises(click.UsageError, match=said):
        parse_isolation(value)


def test_the_variable_counts_like_the_option(tmp_path: Path) -> None:
    pybuild = Pybuild(tmp_path / "store")
    (tmp_path / "Buildfile").write_text("FROM scratch\nCOPY Buildfile /\n")
    refused = pybuild.run(tmp_path, PYBUILD_ISOLATION="chroot")
    assert refused.status == 2
    assert "--isolation chroot: expected one of" in refused.err
    pybuild("--isolation=auto", tmp_path, PYBUILD_ISOLATION="chroot")
    pybuild(tmp_path, PYBUILD_ISOLATION="in-place")  # no step needs it
    pybuild(tmp_path, PYBUILD_ISOLATION="container")
