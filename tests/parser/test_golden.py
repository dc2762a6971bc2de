"""Each recipe in fixtures/recipes parses to its golden parse, which `python fixtures/make_golden.py` writes."""

from __future__ import annotations

import pytest

from fixtures.make_golden import GOLDEN, RECIPES, dump
from pybuild.parser import parse
from pybuild.parser.serial import from_json, to_json

NAMES = sorted(path.stem for path in RECIPES.glob("*.Buildfile"))


def test_each_recipe_has_a_golden_parse() -> None:
    assert len(NAMES) >= 40
    assert sorted(path.stem for path in GOLDEN.glob("*.json")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_parses_to_its_golden_parse(name: str) -> None:
    path = RECIPES / f"{name}.Buildfile"
    recipe = parse(path.read_bytes(), path.name)
    assert dump(recipe) == (GOLDEN / f"{name}.json").read_text()
    assert from_json(to_json(recipe), recipe.source) == recipe
