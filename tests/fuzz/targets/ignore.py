"""An ignore file, and paths to look up in it: after a NUL, one in a line."""

from __future__ import annotations

import contextlib
import posixpath
import re

from pybuild.parser import IgnoreFile, PatternError
from tests.fuzz.target import FuzzTarget

MOST_STARS = 5  # in a pattern that the model tries: it takes exponential time


def read(data: bytes) -> bool:
    """A path is excluded if the rules of moby's patternmatcher exclude it, whatever was asked before."""
    text, _, asked = data.decode("utf-8", "surrogateescape").partition("\0")
    paths = [path for path in asked.split("\n") if path and _is_clean(path)][:20]
    try:
        ignore = IgnoreFile.parse(text)
    except PatternError as error:
        assert str(error).startswith("ignore file, line ") and len(str(error)) < 1000
        return False
    found = [ignore.excludes(path) for path in paths]
    assert [ignore.excludes(path) for path in reversed(paths)] == found[::-1]
    if (model := _model(text)) is not None:
        assert found == [_excluded(model, path) for path in paths]
    for path in paths:
        line = ignore.explain(path)
        assert (line is not None and not line.text.startswith("!")) == ignore.excludes(path)
        for parent in _parents(path)[:-1]:
            if ignore.excludes(parent) and not ignore.excludes(path):
                assert ignore.may_contain_included(parent)
            if ignore.excludes(path) and not ignore.excludes(parent):
                assert ignore.matches_below(parent)
    with contextlib.suppress(PatternError):
        IgnoreFile.of(text.split("\n"))
    return bool(paths)


def _is_clean(path: str) -> bool:
    return not {"", ".", ".."} & set(path.split("/"))


def _parents(path: str) -> list[str]:
    """The path and its parents, from the top."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _excluded(model: list[tuple[bool, re.Pattern[str]]], path: str) -> bool:
    excluded = False
    for exclude, pattern in model:
        if any(pattern.fullmatch(step) for step in _parents(path)):
            excluded = exclude
    return excluded


def _model(text: str) -> list[tuple[bool, re.Pattern[str]]] | None:
    """Each line as one expression; None if a line has a class, an escape or many stars."""
    model = []
    for line in text.removeprefix("\ufeff").split("\n"):
        pattern = line.strip()
        if line.startswith("#") or not pattern:
            continue
        if set(pattern) & set("[]\\") or pattern.count("*") > MOST_STARS or len(pattern) > 30:
            return None
        exclude = not pattern.startswith("!")
        pattern = posixpath.normpath(pattern.removeprefix("!").strip()).lstrip("/")
        if pattern not in ("", "."):
            model.append((exclude, _expression(pattern)))
    return model


def _expression(pattern: str) -> re.Pattern[str]:
    if pattern.startswith("**") and not set(pattern[2:]) & set("*?"):
        # moby compares the ends of the texts, and `**/x` matches x too.
        rest = pattern[2:]
        return re.compile(f".*{re.escape(rest)}" + (f"|{re.escape(rest[1:])}" if rest.startswith("/") else ""), re.DOTALL)
    out = ""
    while pattern:
        if pattern.startswith("**"):
            pattern = pattern[2:].removeprefix("/")
            out += "(?:.*/)?" if pattern else ".*"
        else:
            first, pattern = pattern[0], pattern[1:]
            out += {"*": "[^/]*", "?": "[^/]"}.get(first) or re.escape(first)
    return re.compile(out, re.DOTALL)


TARGET = FuzzTarget(
    read,
    seeds=(
        b"# all\n*\n!*.md\nREADME*\n\0a\na.md\nREADME.md\nx/a.md",
        b"**/*.log\nnode_modules\n!/keep/**\n./b//c/../d\n\0x.log\na/b/x.log\nnode_modules/a\nkeep/a/b\nb/d",
        b"a**b\n**z\nq**\n!**/z/**\n\0ab\na/b\nax/y/b\nxz\nx/z\nx/z/y\nq\nqq/r",
        b"[a-c]x\n[^a]y\n\\*\na?c\n! b\n\0ax\nby\n*\nabc\na/c\nb",
        b"a/**/b\n!a/**\na/*/c\n\0a/b\na/x/b\na/x/y/b\na/x/c",
        b"/\n..\n../a\n.\n\0a",
    ),
    words=(b"**", b"*", b"**/", b"/**", b"!", b"?", b"[", b"]", b"[^", b"-", b"\\", b"#", b"\n", b"\0", b"/", b"../", b"\xef\xbb\xbf", b"\r\n"),
    longest=200,
)  # fmt: skip
