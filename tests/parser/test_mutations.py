"""Randomly mutated recipes: each is parsed, or refused with a ParseError that can be shown.

`make attack` tries more of them. PYBUILD_MUTATIONS is their number, PYBUILD_SEED the seed.
"""

from __future__ import annotations

import os
import random

from fixtures.make_golden import RECIPES
from pybuild.parser import ParseError, parse
from pybuild.parser.serial import from_json, to_json
from tests.support.parsed import PIECES, check_place, use

COUNT = int(os.environ.get("PYBUILD_MUTATIONS", "2000"))
SEED = int(os.environ.get("PYBUILD_SEED", "1"))


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The data with one to four changes."""
    for _ in range(rng.randint(1, 4)):
        place, end = sorted((rng.randint(0, len(data)), rng.randint(0, len(data))))
        end = min(end, place + rng.choice((1, 1, 2, 8, 64)))
        match rng.randrange(6):
            case 0:
                data = data[:place] + data[end:]
            case 1:
                data = data[:place] + rng.choice(PIECES) + data[place:]
            case 2:
                data = data[:place] + rng.choice(PIECES) + data[end:]
            case 3:
                data = data[:end] + data[place:]
            case 4:
                data = data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
            case _:
                lines = data.split(b"\n")
                rng.shuffle(lines)
                data = b"\n".join(lines)
    return data


def test_a_mutated_recipe_is_parsed_or_refused() -> None:
    rng = random.Random(SEED)
    recipes = [path.read_bytes() for path in sorted(RECIPES.glob("*.Buildfile"))]
    read = refused = 0
    for number in range(COUNT):
        data = mutated(rng.choice(recipes), rng)
        try:
            recipe = parse(data)
        except ParseError as error:
            refused += 1
            assert error.message and "\n" not in error.message, (number, data)
            check_place(error)
        else:
            read += 1
            assert from_json(to_json(recipe), recipe.source) == recipe
            use(recipe)
    assert read > COUNT // 10
    assert refused > COUNT // 10
