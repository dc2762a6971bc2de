"""Randomly mutated recipes: each is parsed, or refused with a ParseError that can be shown.

`make attack` tries more of them. PYBUILD_MUTATIONS is their number, PYBUILD_SEED the seed.
"""

from __future__ import annotations

import os
import random

from fixtures.make_golden import RECIPES
from pybuild.parser import (
    Add,
    Buildfile,
    Copy,
    ExpansionError,
    Onbuild,
    ParseError,
    Run,
    Word,
    expand,
    expand_heredoc,
    parse,
    parse_trigger,
    read_mount,
)
from pybuild.parser.serial import from_json, to_json

COUNT = int(os.environ.get("PYBUILD_MUTATIONS", "2000"))
SEED = int(os.environ.get("PYBUILD_SEED", "1"))
SCOPE = {"A": "a b", "X": "", "P": "/usr/lib/x.so", "HOME": "/root"}
PIECES = [
    b"\n", b"\r\n", b"\\\n", b"`\n", b" ", b"\t", b'"', b"'", b"\\", b"`", b"$", b"${", b"}", b"${X:-", b"#", b"# ", b"<<", b"<<EOF",
    b"<<-'E'", b"EOF\n", b"[", b"]", b'["', b'", "', b",", b"=", b":", b"--", b"--from=", b"--mount=type=", b"\0", b"\xff", b"\xc3",
    "\u202e".encode(), "ä".encode(), "\u2028".encode(), b"FROM ", b"RUN ", b"COPY ", b"ADD ",
    b"ONBUILD ", b"ENV ", b"ARG ", b"HEALTHCHECK ", b"CMD ", b"# escape=`\n", b"# check=skip=all\n", b"\\u0000", b"\\ud800",
]  # fmt: skip


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


def words(value: object) -> list[Word]:
    """All words in a value."""
    if isinstance(value, Word):
        return [value]
    if isinstance(value, tuple):
        return [word for item in value for word in words(item)]
    fields = getattr(value, "__dataclass_fields__", {})
    return [word for name in fields if name != "source" for word in words(getattr(value, name))]


def use(recipe: Buildfile) -> None:
    """Expand all words, heredocs, mounts and triggers of a recipe, as the planner does."""
    for word in words(recipe):
        try:
            expand(word.text, SCOPE, escape=recipe.escape)
        except ExpansionError as error:
            assert 0 <= error.offset <= len(word.text)
    for stage in recipe.stages:
        for instruction in stage.instructions:
            match instruction:
                case Copy(heredocs=heredocs) | Add(heredocs=heredocs):
                    for heredoc in heredocs:
                        try:
                            expand_heredoc(heredoc.content, SCOPE)
                        except ExpansionError as error:
                            assert 0 <= error.offset <= len(heredoc.content)
                case Run(mounts=mounts):
                    for mount in mounts:
                        try:
                            read_mount(mount, lambda word: expand(word.text, SCOPE))
                        except (ParseError, ExpansionError) as error:
                            assert error.message
                case Onbuild(trigger=trigger):
                    try:
                        parse_trigger(trigger)
                    except ParseError as error:
                        # If the recipe has another escape character, the text can mean something else in the child.
                        assert recipe.escape == "`", error
                case _:
                    pass


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
            assert error.source is not None
            lines = error.source.text.split("\n")
            assert 1 <= error.span.line <= len(lines), (number, data)
            assert 1 <= error.span.column <= len(lines[error.span.line - 1]) + 1, (number, data)
            assert error.source.excerpt(error.span)
        else:
            read += 1
            assert from_json(to_json(recipe), recipe.source) == recipe
            use(recipe)
    assert read > COUNT // 10
    assert refused > COUNT // 10
