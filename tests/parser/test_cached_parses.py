"""Parsed recipes that were kept: the same values, without the grammar."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pybuild.parser import Copy, Onbuild, ParseError, Run, Source, parse, parse_trigger
from pybuild.parser.serial import from_json, to_json, trigger_from_json, trigger_to_json

RECIPE = """\
# syntax=a/b
# check=skip=A
ARG V=1
FROM --platform=linux/amd64 x:$V AS base
# check=skip=B
RUN --mount=type=cache,target=/c --device=a/b=c,required <<E
a
E
COPY --link --exclude=*.o --chmod=u=rw <<E <<-'F' s /d/
a
E
\tb
\tF
ADD --checksum=abcd --unpack https://x/y /z
HEALTHCHECK --interval=1m CMD ["a", "b"]
ONBUILD COPY --from=base a b
MAINTAINER me
ENV A=b C='d e'
EXPOSE 1-2 $P
"""


class Kept(dict[str, bytes]):
    """A cache of parses."""

    def get(self, key: str) -> bytes | None:  # type: ignore[override]
        return super().get(key)

    def put(self, key: str, value: bytes) -> None:
        self[key] = value


def test_a_recipe_comes_back_as_it_was() -> None:
    recipe = parse(RECIPE)
    assert from_json(to_json(recipe), recipe.source) == recipe


def test_a_heredoc_of_any_bytes_comes_back_as_it_was() -> None:
    recipe = parse(b"FROM a\nRUN <<E\n\xff\xed\xa0\x80\nE\n")
    assert from_json(to_json(recipe), recipe.source) == recipe


def test_a_recipe_is_read_once() -> None:
    kept = Kept()
    first = parse(RECIPE, cache=kept)
    ((key, value),) = kept.items()
    kept[key] = to_json(parse("FROM other"))
    assert parse(RECIPE, cache=kept).stages[0].base.image.text == "other"
    kept[key] = value
    assert parse(RECIPE, cache=kept) == first


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"null", b'["\\\\",[],[],null]', b'["\\\\",[{"Nope":[]}],[],null,null,[],[]]', b"[" * 10_000],
    ids=["nothing", "an object", "a list", "null", "too short", "an unknown kind", "too deep"],
)
def test_what_was_damaged_is_read_anew(data: bytes) -> None:
    assert from_json(data, Source("f", "")) is None
    assert trigger_from_json(data) is None
    kept = Kept()
    expected = parse(RECIPE, cache=kept)
    for key in kept:
        kept[key] = data
    assert parse(RECIPE, cache=kept) == expected


def test_errors_are_not_kept() -> None:
    kept = Kept()
    with pytest.raises(ParseError):
        parse("BOGUS", cache=kept)
    assert not kept


def test_a_recipe_that_was_kept_needs_no_grammar() -> None:
    program = f"""
import sys
from pybuild.parser import parse, parse_trigger
class Kept(dict):
    put = dict.__setitem__
kept = Kept()
recipe = parse({RECIPE!r}, cache=kept)
trigger = parse_trigger("RUN x", cache=kept)
for name in [name for name in sys.modules if name.startswith("lark") or name == "pybuild.parser.transform"]:
    del sys.modules[name]
assert parse({RECIPE!r}, cache=kept) == recipe
assert parse_trigger("RUN x", cache=kept) == trigger
assert not [name for name in sys.modules if name.startswith("lark")]
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("RUN a", id="E6-a command"),
        pytest.param("run  a # b", id="E6-as it was written"),
        pytest.param("COPY --from=x a /b", id="E6-a copy"),
        pytest.param("RUN <<E\na\nE", id="E6-a heredoc"),
        pytest.param("COPY <<E <<-F /x/\na\nE\n\tb\nF", id="E6-two heredocs"),
    ],
)
def test_a_trigger_is_read_again_in_another_recipe(text: str) -> None:
    instruction = parse_trigger(text)
    assert trigger_from_json(trigger_to_json(instruction)) == instruction
    (stored,) = parse(f"FROM a\nONBUILD {text}").stages[0].instructions
    assert isinstance(stored, Onbuild)
    assert stored.trigger == text
    assert type(stored.instruction) is type(instruction)
    assert stored.instruction.text == instruction.text


def test_a_trigger_is_read_with_the_backslash_whatever_the_recipe_had() -> None:
    (stored,) = parse("# escape=`\nFROM a\nONBUILD RUN a `\n b").stages[0].instructions
    assert isinstance(stored, Onbuild)
    assert stored.trigger == "RUN a  b"
    assert isinstance(parse_trigger(stored.trigger), Run)
    (line,) = parse("# escape=`\nFROM a\nONBUILD COPY C:\\ D:\\").stages[0].instructions
    assert isinstance(line, Onbuild)
    assert isinstance(parse_trigger(line.trigger), Copy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "no instructions", id="E27-nothing"),
        pytest.param("FROM a", "FROM isn't allowed", id="E27-a stage"),
        pytest.param("MAINTAINER a", "MAINTAINER isn't allowed", id="E27-an author"),
        pytest.param("ONBUILD RUN a", "ONBUILD isn't allowed", id="E27-another trigger"),
        pytest.param("RUN a\nRUN b", "one instruction", id="E27-two instructions"),
        pytest.param("RUN <<E\na", "unterminated heredoc", id="E6-half a heredoc"),
        pytest.param("BOGUS", "unknown instruction BOGUS", id="E27-no instruction"),
        pytest.param("RUN a\0", "a NUL byte", id="E27-a NUL"),
        pytest.param("RUN \ud800", "invalid UTF-8", id="E27-half a character"),
    ],
)
def test_a_trigger_that_cannot_be_is_refused_in_its_own_text(text: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_trigger(text, "ONBUILD of x")
    assert message in caught.value.message
    assert caught.value.source is not None
    assert caught.value.source.filename == "ONBUILD of x"
