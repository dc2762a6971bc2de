"""The cache of parsed recipes returns the same values, without importing the grammar."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys

import pytest

from pybuild.parser import FORMAT, Buildfile, Copy, Onbuild, ParseError, Run, Source, parse, parse_trigger, serial
from pybuild.parser.checks import RULES
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


class DictCache(dict[str, bytes]):
    """A cache of parses in memory."""

    def get(self, key: str) -> bytes | None:  # type: ignore[override]
        return super().get(key)

    def put(self, key: str, value: bytes) -> None:
        self[key] = value


def test_a_recipe_survives_json() -> None:
    recipe = parse(RECIPE)
    assert from_json(to_json(recipe), recipe.source) == recipe


def test_a_heredoc_of_any_bytes_survives_json() -> None:
    recipe = parse(b"FROM a\nRUN <<E\n\xff\xed\xa0\x80\nE\n")
    assert from_json(to_json(recipe), recipe.source) == recipe


def test_a_cached_parse_is_used() -> None:
    cache = DictCache()
    first = parse(RECIPE, cache=cache)
    ((key, value),) = cache.items()
    cache[key] = to_json(parse("FROM other"))
    assert parse(RECIPE, cache=cache).stages[0].base.image.text == "other"
    cache[key] = value
    assert parse(RECIPE, cache=cache) == first


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"null", b'["\\\\",[],[],null]', b'["\\\\",[{"Nope":[]}],[],null,null,[],[]]', b"[" * 10_000],
    ids=["nothing", "an object", "a list", "null", "too short", "an unknown kind", "too deep"],
)
def test_damaged_data_is_ignored_and_the_recipe_is_parsed_again(data: bytes) -> None:
    assert from_json(data, Source("f", "")) is None
    assert trigger_from_json(data) is None
    cache = DictCache()
    expected = parse(RECIPE, cache=cache)
    for key in cache:
        cache[key] = data
    assert parse(RECIPE, cache=cache) == expected


def test_errors_are_not_cached() -> None:
    cache = DictCache()
    with pytest.raises(ParseError):
        parse("BOGUS", cache=cache)
    assert not cache


def test_a_cached_recipe_does_not_import_lark() -> None:
    program = f"""
import sys
from pybuild.parser import parse, parse_trigger
class DictCache(dict):
    put = dict.__setitem__
cache = DictCache()
recipe = parse({RECIPE!r}, cache=cache)
trigger = parse_trigger("RUN x", cache=cache)
for name in [name for name in sys.modules if name.startswith("lark") or name == "pybuild.parser.transform"]:
    del sys.modules[name]
assert parse({RECIPE!r}, cache=cache) == recipe
assert parse_trigger("RUN x", cache=cache) == trigger
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
def test_the_text_of_a_trigger_can_be_parsed_again(text: str) -> None:
    instruction = parse_trigger(text)
    assert trigger_from_json(trigger_to_json(instruction)) == instruction
    (stored,) = parse(f"FROM a\nONBUILD {text}").stages[0].instructions
    assert isinstance(stored, Onbuild)
    assert stored.trigger == text
    assert type(stored.instruction) is type(instruction)
    assert stored.instruction.text == instruction.text


def test_the_escape_character_of_a_trigger_is_always_the_backslash() -> None:
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
        pytest.param("FROM a", "FROM isn't allowed", id="E27-FROM"),
        pytest.param("MAINTAINER a", "MAINTAINER isn't allowed", id="E27-MAINTAINER"),
        pytest.param("ONBUILD RUN a", "ONBUILD isn't allowed", id="E27-another trigger"),
        pytest.param("RUN a\nRUN b", "one instruction", id="E27-two instructions"),
        pytest.param("RUN <<E\na", "unterminated heredoc", id="E6-half a heredoc"),
        pytest.param("BOGUS", "unknown instruction BOGUS", id="E27-an unknown instruction"),
        pytest.param("RUN a\0", "a NUL byte", id="E27-a NUL"),
        pytest.param("RUN \ud800", "invalid UTF-8", id="E27-half a character"),
    ],
)
def test_an_invalid_trigger_is_an_error_in_its_own_text(text: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_trigger(text, "ONBUILD of x")
    assert message in caught.value.message
    assert caught.value.source is not None
    assert caught.value.source.filename == "ONBUILD of x"


def test_a_change_of_the_cached_form_changes_its_version() -> None:
    """A cached parse stores the fields of values by position, and the warnings of all rules that need only the text.

    So a new, moved or removed field makes old ones unreadable, and they lack the warnings of a new rule.

    If this fails, raise `FORMAT` in parser/__init__.py by one, and put it and the new digest here.
    """
    classes = {**serial._KINDS, "Buildfile": Buildfile}
    fields = [f"{name}: {[field.name for field in dataclasses.fields(classes[name])]}" for name in sorted(classes)]
    fields.append(f"rules: {sorted(RULES)}")
    digest = hashlib.sha256("\n".join(fields).encode()).hexdigest()
    assert (FORMAT, digest[:16]) == (5, "5a11155cf6dbc69c")
