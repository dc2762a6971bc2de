"""Does with a parsed recipe what the planner does, for tests that have recipes of all kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    parse_trigger,
    read_mount,
)

if TYPE_CHECKING:
    from pybuild.values.errors import PybuildError

SCOPE = {"A": "a b", "X": "", "P": "/usr/lib/x.so", "HOME": "/root"}
PIECES = [  # of recipes, for whoever changes them at random
    b"\n", b"\r\n", b"\\\n", b"`\n", b" ", b"\t", b'"', b"'", b"\\", b"`", b"$", b"${", b"}", b"${X:-", b"#", b"# ", b"<<", b"<<EOF",
    b"<<-'E'", b"EOF\n", b"[", b"]", b'["', b'", "', b",", b"=", b":", b"--", b"--from=", b"--mount=type=", b"\0", b"\xff", b"\xc3",
    "\u202e".encode(), "ä".encode(), "\u2028".encode(), b"FROM ", b"RUN ", b"COPY ", b"ADD ",
    b"ONBUILD ", b"ENV ", b"ARG ", b"HEALTHCHECK ", b"CMD ", b"# escape=`\n", b"# check=skip=all\n", b"\\u0000", b"\\ud800",
]  # fmt: skip


def check_place(error: PybuildError) -> None:
    """Check that an error has a place in its source, and that an excerpt can show it."""
    assert error.source is not None and error.span is not None
    lines = error.source.text.split("\n")
    assert 1 <= error.span.line <= len(lines)
    assert 1 <= error.span.column <= len(lines[error.span.line - 1]) + 1
    assert error.source.excerpt(error.span)


def words(value: object) -> list[Word]:
    """All words in a value."""
    if isinstance(value, Word):
        return [value]
    if isinstance(value, tuple):
        return [word for item in value for word in words(item)]
    fields = getattr(value, "__dataclass_fields__", {})
    return [word for name in fields if name != "source" for word in words(getattr(value, name))]


def use(recipe: Buildfile) -> None:
    """Expand all words, heredocs, mounts and triggers of a recipe."""
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
