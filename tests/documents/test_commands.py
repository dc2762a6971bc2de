"""Each command line of pybuild in a code block of a document, and in a recipe for a CI, is one that pybuild understands.

Nothing runs here: click reads the command lines. So an option that does not exist, a misspelt command or an argument too many fails,
wherever it stands. What only looks like a command, because it belongs to a sentence or shows output, does not stand in a block.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from pybuild.cli import cli
from pybuild.options.arguments import normalise
from tests.support.cli import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md")), CHECKOUT / "templates/build.yml"]
# What stands before a call: nothing, a variable, what the shell and the files of a CI have there, or the image of `docker run`.
_CALL = re.compile(r"""(?:^|[;&|($'"] ?|\brun: |^- |\b\w+=\S+ |\bIMAGE )(?:\S*/bin/)?pybuild(?= )(?P<words>.*)""")
_FOLDED = re.compile(r"^(( *)- >-\n)((?:\2 {2,}.*\n)+)", re.MULTILINE)  # YAML makes one line of it
# What ends a command: the rest of the line belongs to the shell.
_END = re.compile(r"""((?:[^'"|;&<>#()`]|'[^']*'|"[^"]*"|(?<=\S)[#(]|&(?=\S)(?!&))*)""")


def command_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line number and words of each call of pybuild in the code blocks of a page; a line that ends in \\ goes on in the next."""
    fence = ""
    pending, begun = "", 0
    text = re.sub(r"\$\[\[.*?\]\] ", "", path.read_text())  # what GitLab puts in
    text = _FOLDED.sub(lambda found: found[1] + found[3].rstrip("\n").replace("\n", " \\\n") + "\n", text)
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"^ *(```+)(\w*)", line):
            fence = "" if fence else match[2] or "none"
            continue
        inside = path.suffix == ".yml" or fence in ("sh", "console", "yaml", "groovy") or (not fence and line.startswith("    "))
        if not inside or (fence == "console" and not line.startswith("$ ")):
            pending = ""
            continue
        begun = begun if pending else number
        whole = pending + line.strip().removeprefix("$ ")
        if whole.endswith("\\"):
            pending = whole[:-1]
            continue
        pending = ""
        for match in _CALL.finditer(whole):
            ending = _END.match(match["words"])
            assert ending is not None
            if ending[1].strip():
                yield begun, ending[1].strip()


CALLS = [(path, number, words) for path in PAGES for number, words in command_lines(path)]


def understood(words: list[str]) -> str:
    """What click says to the options and arguments of a command line; "" if it understands them.

    Values are not looked at: they are names of files and variables of an example.
    """
    try:
        context = cli.make_context("pybuild", normalise(words))
        _, command, rest = cli.resolve_command(context, [*context._protected_args, *context.args])
        while command is not None:
            parser = command.make_parser(click.Context(command))
            if isinstance(command, click.Group):
                if not rest:
                    return "without a command"
                _, command, rest = command.resolve_command(click.Context(command), rest)
                continue
            values, left, _ = parser.parse_args(list(rest))
            needed = [one.name for one in command.params if one.required and isinstance(one, click.Argument)]
            missing = [name for name in needed if not isinstance(values.get(str(name)), str | tuple)]
            return f"too much: {left}" if left else f"without {missing}" if missing else ""
    except click.UsageError as error:
        return error.format_message()
    except click.exceptions.Exit:  # --version and the like
        return ""
    return "no command"


@pytest.mark.parametrize(("path", "number", "words"), CALLS, ids=lambda value: value.name if isinstance(value, Path) else str(value))
def test_a_command_line_is_understood(path: Path, number: int, words: str) -> None:
    said = understood(shlex.split(words, comments=False))
    assert not said, f"{path.relative_to(CHECKOUT)}:{number}: pybuild {words}\n{said}"


def test_what_does_not_exist_is_not_understood() -> None:
    assert "No such option" in understood(["--pushy", "."])
    assert "No such option" in understood(["history", "app", "--filez"])
    assert "too much" in understood(["build", ".", "other"])
    assert "without" in understood(["build", "--push"])
    assert understood(["index", "create", "both", "several"]) == understood(["-t", "app", "."]) == ""


def test_every_kind_of_block_is_read() -> None:
    """Commands of a block of shell, of a console, of the files of CIs, and of a block that is indented are among them."""
    found = {(path.name, words.split()[0], ([*words.split(), ""])[1]) for path, _, words in CALLS}
    assert {("README.md", "history", "--files"), ("cache.md", "why", ""), ("ci.md", "login", "-u"), ("build.yml", "build", "--push")} <= found
    assert {("kubernetes.md", "build", "--push"), ("containers.md", "--isolation=auto", "."), ("install.md", "completion", "fish")} <= found
    assert len(CALLS) > 160


def inline(path: Path) -> Iterator[str]:
    """The commands that stand in a sentence or in a table."""
    prose = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    yield from re.findall(r"`pybuild ([a-z][^`\n]*)`", prose)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_command_in_a_sentence_exists(path: Path) -> None:
    """Its arguments can be left out there."""
    for words in inline(path):
        said = understood(shlex.split(words.replace("…", "").replace("\\|", " ").partition("|")[0].replace("...", "")))
        assert not said or said.startswith(("without", "too much", "Missing", "Option '-o' requires")), f"{path.relative_to(CHECKOUT)}: `pybuild {words}`\n{said}"
