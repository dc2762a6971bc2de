"""The checks find what BuildKit's find: the recorded cases of findings.toml. Rules that only pybuild has are left out."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from pybuild.builder.errors import PlanError
from pybuild.builder.files.context_source import ContextSource
from pybuild.builder.plan.lint import Inspector, warnings_of
from pybuild.builder.plan.planner import plan
from pybuild.builder.plan.resolve import resolve
from pybuild.builder.plan.rules import url_of
from pybuild.parser import ParseError, parse
from pybuild.parser.mistakes import salvage
from pybuild.store.formats.oci_config import ExecConfig
from tests.support.recipes import Images, image, options

CASES = tomllib.loads((Path(__file__).parent / "findings.toml").read_text())["case"]
FIELDS = {"from", "recipe", "findings", "build_args", "ignore", "says", "fails"}


def test_the_file_has_cases_with_known_fields() -> None:
    assert len(CASES) == 50
    assert all(case.keys() <= FIELDS for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['from']}: {case['recipe']}"[:80])
def test_the_findings_are_those_of_buildkit(case: dict[str, object]) -> None:
    recipe, given = str(case["recipe"]), options(build_args=case.get("build_args", {}))
    mistakes: list[Exception] = []
    try:
        buildfile = parse(recipe)
    except ParseError:
        left = salvage(recipe, "Buildfile")
        assert left.buildfile is not None
        buildfile = left.buildfile
        mistakes += left.mistakes
    base = image(ExecConfig(env=("BASE_VAR=1",)))
    images = Images({"base": base, "base:latest": base})
    errors: list[PlanError] = []
    resolved = resolve(buildfile, given, images, all_stages=True, on_error=errors.append)
    unknown = {index for index, stage in resolved.stages.items() if not stage.is_known}
    ignored = case.get("ignore")
    assert ignored is None or isinstance(ignored, str)
    inspector = Inspector(resolved, given, lambda name: ContextSource("/does/not/exist", ignored), unknown)
    plan(resolved, given, inspector, inspector.take_mistake)
    found = [w for w in warnings_of(inspector, resolved, given)[0] if url_of(w.rule).startswith("https://")]
    assert sorted(f"{warning.span.line} {warning.rule}" for warning in found) == sorted(case["findings"])  # type: ignore[call-overload]
    if "says" in case:
        assert case["says"] in [warning.message for warning in found]
    assert bool([*mistakes, *errors, *inspector.mistakes]) == bool(case.get("fails"))
