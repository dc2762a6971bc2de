"""docs/user/checks.md: each rule has a section, whose first recipe breaks the rule and whose second does not."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from pybuild.builder.files.context_source import ContextSource
from pybuild.builder.plan.lint import Inspector, warnings_of
from pybuild.builder.plan.planner import plan
from pybuild.builder.plan.resolve import resolve
from pybuild.builder.plan.rules import DOCUMENT, RULES, section_of, url_of
from pybuild.parser import parse
from pybuild.store.objects.images import StoredImage
from tests.support.recipes import Images, image, options

TEXT = (Path(__file__).parents[3] / DOCUMENT).read_text()
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", TEXT, re.DOTALL | re.MULTILINE))
FILES = ("a.txt", "b.txt", "build.log")


def for_arm() -> StoredImage:
    base = image()
    return replace(base, config=replace(base.config, architecture="arm64"))


def found(text: str, context: Path) -> set[str]:
    """The rules that a recipe breaks, on a context with FILES and a line `*.log` in its ignore file."""
    for name in FILES:
        (context / name).touch()
    given = options(build_args={"VERISON": "2"})
    images = Images({"debian": image(), "debian:latest": image(), "arm-only": for_arm()})
    recipe = resolve(parse(text), given, images, all_stages=True, on_error=lambda error: None)
    inspector = Inspector(recipe, given, lambda name: ContextSource(str(context), "*.log"))
    plan(recipe, given, inspector, inspector.take_mistake)
    return {warning.rule for warning in warnings_of(inspector, recipe, given)[0]}


def recipes(rule: str) -> list[str]:
    return re.findall(r"^```dockerfile\n(.*?)^```$", SECTIONS[rule], re.DOTALL | re.MULTILINE)


def skipping(rule: str, text: str) -> str:
    """The recipe with the rule skipped in its directive; an experimental rule is not turned on."""
    return f"# check=skip={rule}\n" + re.sub(r"^# check=.*\n", "", text)


def test_each_rule_has_a_section() -> None:
    assert list(SECTIONS) == sorted(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_the_recipes_of_a_section(rule: str, tmp_path: Path) -> None:
    bad, good = recipes(rule)
    assert rule in found(bad, tmp_path)
    assert rule not in found(good, tmp_path)
    assert rule not in found(skipping(rule, bad), tmp_path)




@pytest.mark.parametrize("rule", RULES)
def test_the_right_recipes_break_no_other_rule(rule: str, tmp_path: Path) -> None:
    assert found(recipes(rule)[1], tmp_path) <= {"UnknownBuildArg"}  # the argument of these tests is in one recipe only


@pytest.mark.parametrize(
    ("rule", "url"),
    [
        ("StageNameCasing", "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/"),
        ("JSONArgsRecommended", "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"),
        ("UndefinedArgInFrom", "https://docs.docker.com/go/dockerfile/rule/undefined-arg-in-from/"),
        ("CopyLastFileWins", "docs/user/checks.md#copylastfilewins"),
    ],
)
def test_where_a_rule_is_explained(rule: str, url: str) -> None:
    assert url_of(rule) == url
    assert section_of(rule) == f"docs/user/checks.md#{rule.lower()}"
