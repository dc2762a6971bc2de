"""Randomly mutated recipes: a check of each ends with findings and mistakes that have places, never with an exception.

PYBUILD_MUTATIONS is their number, PYBUILD_SEED the seed.
"""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest

from fixtures.make_golden import RECIPES
from pybuild.builder.check import CheckReport
from pybuild.builder.errors import PlanError
from pybuild.builder.files.context_source import ContextSource
from pybuild.builder.plan.lint import Inspector, warnings_of
from pybuild.builder.plan.planner import plan
from pybuild.builder.plan.resolve import resolve
from pybuild.builder.plan.rules import RULES
from pybuild.findings.github import check_as_annotations
from pybuild.findings.json import check_as_json
from pybuild.findings.sarif import check_as_sarif
from pybuild.findings.text import warnings_as_text
from pybuild.parser import Buildfile, ParseError, Source, parse
from pybuild.parser.mistakes import salvage
from pybuild.store.formats.oci_config import ExecConfig
from pybuild.store.objects.images import StoredImage
from pybuild.values.errors import PybuildError
from tests.parser.test_mutations import mutated
from tests.support.recipes import image, options

COUNT = int(os.environ.get("PYBUILD_MUTATIONS", "600"))
SEED = int(os.environ.get("PYBUILD_SEED", "1"))


class AnyImage:
    """A source that has every image; each sets these variables."""

    def __init__(self, env: tuple[str, ...] = ()) -> None:
        self._image = image(ExecConfig(env=env))

    def image(self, reference: object, platform: object = None) -> StoredImage:
        return self._image


def read(data: bytes) -> tuple[Source, Buildfile | None, list[PybuildError]]:
    try:
        buildfile = parse(data)
    except ParseError:
        left = salvage(data, "Buildfile")
        return left.source, left.buildfile, list(left.mistakes)
    return buildfile.source, buildfile, []


def checked(data: bytes, context: ContextSource, *, missing: bool, env: tuple[str, ...] = ()) -> CheckReport:
    """The check of a recipe whose bases are all missing, or all known and set these variables."""
    source, buildfile, mistakes = read(data)
    if buildfile is None:
        return CheckReport(source, tuple(mistakes))
    given = options(build_args={"VERISON": "1"})
    errors: list[PlanError] = []
    resolved = resolve(buildfile, given, AnyImage(env), all_stages=True, on_error=errors.append)
    unknown = {index for index, stage in resolved.stages.items() if missing or not stage.is_known}
    inspector = Inspector(resolved, given, lambda name: context, unknown)
    plan(resolved, given, inspector, inspector.take_mistake)
    warnings, _ = warnings_of(inspector, resolved, given)
    found = (*mistakes, *errors, *inspector.mistakes)
    return CheckReport(source, tuple(error.at(source=source) for error in found), tuple(warnings), ("note",))


@pytest.mark.parametrize("missing", [False, True])
def test_a_check_of_a_mutated_recipe_ends(missing: bool, tmp_path: Path) -> None:
    for name in ("a", "b.txt", "src/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    context = ContextSource(str(tmp_path), "*.log\n!keep.log")
    rng = random.Random(SEED)
    recipes = [path.read_bytes() for path in sorted(RECIPES.glob("*.Buildfile"))]
    found: set[str] = set()
    refused = 0
    for number in range(COUNT):
        data = mutated(rng.choice(recipes), rng)
        try:
            report = checked(data, context, missing=missing)
        except ParseError:  # the text cannot be split into lines
            refused += 1
            continue
        lines = report.source.text.split("\n")
        for warning in report.warnings:
            assert warning.rule in RULES and 1 <= warning.span.line <= len(lines), (number, data)
        for error in report.mistakes:
            assert error.span is None or 1 <= error.span.line <= len(lines), (number, data)
        assert "".join(warnings_as_text(report)) and check_as_json(report) and check_as_sarif(report, "/")
        assert all("\n" not in line for line in check_as_annotations(report, ""))
        found |= {warning.rule for warning in report.warnings}
    assert refused < COUNT // 2
    assert len(found) > 12


@pytest.mark.parametrize("value", [None, "", "x", "/x", "8080"])
def test_what_is_found_without_the_bases_is_found_with_them(value: str | None) -> None:
    """Whatever the bases set: a check without them finds nothing that a check with them does not find."""
    context = ContextSource("/does/not/exist")
    rng = random.Random(SEED)
    recipes = [path.read_bytes() for path in sorted(RECIPES.glob("*.Buildfile"))]
    for number in range(COUNT // 4):
        data = mutated(rng.choice(recipes), rng)
        names = {name.decode() for name in re.findall(rb"\$\{?([A-Za-z_][A-Za-z0-9_]*)", data)} - {"PATH"}
        try:
            without = checked(data, context, missing=True)
        except ParseError:
            continue
        env = () if value is None else tuple(f"{name}={value}" for name in sorted(names))
        known = checked(data, context, missing=False, env=env)
        found = {(warning.rule, warning.span.line, warning.message) for warning in without.warnings}
        assert found <= {(warning.rule, warning.span.line, warning.message) for warning in known.warnings}, (number, data)
        wrong = {error.span for error in without.mistakes}
        lines = {error.span.line for error in known.mistakes if error.span is not None}
        assert all(span is None or span.line in lines for span in wrong), (number, data)  # a line can have two mistakes
