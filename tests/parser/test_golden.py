"""Recipes of many shapes, and all that is read from each. `python fixtures/make_golden.py` writes the results anew."""

from __future__ import annotations

import pytest

from fixtures.make_golden import GOLDEN, RECIPES, dump
from pybuild.parser import parse
from pybuild.parser.serial import from_json, to_json

NAMES = sorted(path.stem for path in RECIPES.glob("*.Buildfile"))


def test_every_result_has_its_recipe() -> None:
    assert len(NAMES) >= 40
    assert sorted(path.stem for path in GOLDEN.glob("*.json")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_parses_to_what_was_written_down(name: str) -> None:
    path = RECIPES / f"{name}.Buildfile"
    recipe = parse(path.read_bytes(), path.name)
    assert dump(recipe) == (GOLDEN / f"{name}.json").read_text()
    assert from_json(to_json(recipe), recipe.source) == recipe
