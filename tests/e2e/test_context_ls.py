"""pybuild context ls as users see it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from tests.support.cli import BASE, Pybuild, write_context
from tests.support.runs import outputs
from tests.support.tars import directory, entry, tar
from tests.support.terminals import on_terminal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.people import Person

RECIPE = f"FROM {BASE}\nCOPY . /all\nRUN cd /all && find . | sort\n"


def test_the_list_is_what_a_build_copies(person: Person) -> None:
    context = person.context(
        "c", RECIPE, **{".dockerignore": "Buildfile\n*.o\ncache\n", "main.c": "int x;", "main.o": "x"}
    )
    (context / "link").symlink_to("main.c")
    (context / "cache").mkdir(mode=0o700)  # belongs to root: an ordinary user cannot read it and does not need to
    pybuild = person.pybuild()
    listed = pybuild("context", "ls", context).out.splitlines()
    assert listed == [
        "file            20 B  .dockerignore",
        "symlink               link -> main.c",
        "file             6 B  main.c",
        "2 files, 0 directories, 1 symlink: 26 B",
        f"3 paths excluded by {context}/.dockerignore: --excluded lists them",
    ]
    assert pybuild("context", "ls", "--excluded", context).out.splitlines() == [
        f"Buildfile  {context}/.dockerignore:1: Buildfile",
        f"cache/  {context}/.dockerignore:3: cache",
        f"main.o  {context}/.dockerignore:2: *.o",
        f"3 paths excluded by {context}/.dockerignore",
    ]
    found = json.loads(pybuild("context", "ls", "--json", context).out)
    assert (found["entries"], found["size"]) == (3, 26)
    assert found["excluded"][1] == {
        "path": "cache", "type": "directory", "size": 0,
        "by": {"file": f"{context}/.dockerignore", "line": 3, "text": "cache"},
    }  # fmt: skip
    (copied,) = outputs(pybuild("--progress=json", context)).values()
    assert copied.split() == [".", *(f"./{row['path']}" for row in found["sent"])]


def test_an_archive_is_listed_without_a_recipe(tmp_path: Path, pybuild: Pybuild) -> None:
    archive = tar(directory(b"d/"), entry(b"d/f", data=b"text"), entry(b".dockerignore", data=b"d\n"))
    assert pybuild("context", "ls", "-", stdin=archive).out.splitlines() == [
        "file             2 B  .dockerignore",
        "directory             d/",
        "file             4 B  d/f",
        "2 files, 1 directory: 6 B",
    ]
    message = pybuild("context", "ls", "--excluded", "-", stdin=archive).out
    assert message == "nothing is excluded: there is no ignore file\n"
    assert pybuild("context", "ls", "-", stdin=b"FROM scratch\n").out == "0 files, 0 directories: 0 B\n"
    pybuild.assert_whole()


def test_names_with_control_characters_are_escaped(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", "FROM scratch\n")
    for name in (b"a\x1b[2Jb", b"c\nd", b"e\xff", "\u202ef".encode()):
        (context / os.fsdecode(name)).write_text("")
        (context / os.fsdecode(b"x" + name)).write_text("")
    (context / "link").symlink_to("\x1b]0;title\x07")
    (context / ".dockerignore").write_bytes(b"x*\x1b?2J*\nxc*\nxe*\nx*f\n")
    for arguments in ((), ("--excluded",)):
        with on_terminal(pybuild, "context", "ls", *arguments, context) as terminal:
            terminal.end()
            assert terminal.process.returncode == 0
        assert b"\x1b" not in terminal.raw
        assert "\u202e".encode() not in terminal.raw
        assert b"a\\x1b[2Jb" in terminal.raw


def test_contexts_that_cannot_be_listed_are_errors(tmp_path: Path, pybuild: Pybuild) -> None:
    assert "cannot open the context" in pybuild.refused("context", "ls", tmp_path / "none")
    assert "cannot be both" in pybuild.refused("context", "ls", "-f", "-", "-", status=2)
