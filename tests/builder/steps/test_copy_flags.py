"""COPY --exclude, --parents and --chmod, and heredocs: where each file goes, and with which mode."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pybuild.builder.errors import CopyError
from pybuild.builder.files.copy import CopyRequest, plan_entries
from pybuild.builder.files.copy_layer import content_lines, with_digests
from pybuild.builder.files.tree import InlineFile
from pybuild.store.formats.toc import Entry
from tests.support.copies import MemoryTree, planned, view_of
from tests.support.copymodel import Directory, File, Link, ModelCopy
from tests.support.recipes import history, refusal, steps

SOURCE = Directory(
    {
        "app": Directory(
            {
                "main.py": File(b"main", 0o640, (5, 6), 10),
                "run": File(b"run", 0o750, (5, 6), 10),
                "doc": Directory({"main.md": File(), "keep.md": File(), "img": Directory({"x.png": File()})}, 0o700),
                "link": Link("doc"),
            },
            0o711, (5, 6), 10,
        ),
        "lib": Directory({"main.py": File(b"lib"), "sub": Directory({"main.py": File()}, 0o770, (7, 8), 20)}),
        "top.md": File(),
        "#x": File(),
        "!y": Directory({"f": File()}),
        "tolib": Link("lib"),
    }
)  # fmt: skip
IMAGE = Directory({"app": Directory({"old": File()}, 0o755, (9, 9), 5), "lib": File(b"no directory")})


def paths(copy: ModelCopy) -> list[str]:
    return [item.entry.path.decode() for item in planned(copy, SOURCE, IMAGE)]


# --exclude


@pytest.mark.parametrize(
    ("sources", "exclude", "expected"),
    [
        pytest.param("app/doc", "*.md", "d d/img d/img/x.png", id="a name"),
        pytest.param("app", "*.md", "d d/doc d/doc/img d/doc/img/x.png d/doc/keep.md d/doc/main.md d/link d/main.py d/run",
                     id="a name is one at the top of the source"),
        pytest.param("app", "**/*.md", "d d/doc d/doc/img d/doc/img/x.png d/link d/main.py d/run", id="at any depth"),
        pytest.param("app", "doc", "d d/link d/main.py d/run", id="a directory with its content"),
        pytest.param("app", "doc !doc/keep.md", "d d/doc d/doc/keep.md d/link d/main.py d/run", id="with an exception"),
        pytest.param("app", "doc/** !**/keep.md", "d d/doc d/doc/keep.md d/link d/main.py d/run", id="only its content"),
        pytest.param("app", "doc link run", "d d/main.py", id="several"),
        pytest.param("app lib", "main.py", "d d/doc d/doc/img d/doc/img/x.png d/doc/keep.md d/doc/main.md d/link d/run d/sub "
                     "d/sub/main.py", id="for each source on its own"),
        pytest.param("app", "*", "d", id="everything"),
        pytest.param("app/doc", "/main.md", "d d/img d/img/x.png d/keep.md d/main.md", id="a slash in front matches nothing"),
        pytest.param("top.md #x", "top.md #x", "d d/#x d/top.md", id="not the sources themselves"),
        pytest.param(".", "#x !* app lib top.md tolib", "d d/!y d/!y/f d/#x", id="a hash is a name"),
    ],
)  # fmt: skip
def test_excluded_files_are_not_copied(sources: str, exclude: str, expected: str) -> None:
    copy = ModelCopy(tuple(sources.split()), "/d/", exclude=tuple(exclude.split()))
    assert sorted(paths(copy)) == sorted(expected.split())


def test_a_directory_in_which_everything_is_excluded_is_not_read() -> None:
    class Watched(MemoryTree):
        def readdir(self, path: bytes) -> list[Entry]:
            assert path != b"app/doc"
            return super().readdir(path)

    for request in (
        CopyRequest(("app",), "/d/", None, exclude=("doc", "!run")),
        CopyRequest(("app/*.py",), "/d/", None, parents=True),
        CopyRequest(("app/./li*/x",), "/d/", None, parents=True),
    ):
        plan_entries(request, Watched(SOURCE), view_of(IMAGE))


# --parents


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        pytest.param("app/main.py", "d d/app d/app/main.py", id="a file with all of its path"),
        pytest.param("./app/main.py", "d d/app d/app/main.py", id="a dot in front"),
        pytest.param("/app/doc/.", "d d/app d/app/doc d/app/doc/img d/app/doc/img/x.png d/app/doc/keep.md d/app/doc/main.md",
                     id="a dot at the end"),
        pytest.param("app/doc/img", "d d/app d/app/doc d/app/doc/img d/app/doc/img/x.png", id="a directory with its contents"),
        pytest.param("app/./doc/img", "d d/doc d/doc/img d/doc/img/x.png", id="E49 the path before the pivot is left out"),
        pytest.param("./app/./doc/./img", "d d/doc d/doc/img d/doc/img/x.png", id="the first pivot counts"),
        pytest.param("*/main.py", "d d/app d/app/main.py d/lib d/lib/main.py", id="a star"),
        pytest.param("**/main.py", "d d/app d/app/main.py d/lib d/lib/main.py d/lib/sub d/lib/sub/main.py", id="two stars"),
        pytest.param("*/./main.py", "d d/main.py", id="a star before the pivot"),
        pytest.param("l*/./**/main.py", "d d/main.py d/sub d/sub/main.py", id="two stars behind it"),
        pytest.param("*.none", "d", id="no match"),
        pytest.param("tolib/./sub", "d d/sub d/sub/main.py", id="a link before the pivot is followed"),
        pytest.param("!y", "d d/!y d/!y/f", id="an exclamation mark is a name"),
        pytest.param("app/run lib/sub/main.py", "d d/app d/app/run d/lib d/lib/sub d/lib/sub/main.py", id="several"),
    ],
)  # fmt: skip
def test_paths_are_kept_with_parents(sources: str, expected: str) -> None:
    assert paths(ModelCopy(tuple(sources.split()), "/d", parents=True)) == expected.split()


def test_patterns_of_exclude_begin_at_the_pivot() -> None:
    assert paths(ModelCopy(("app/./**/*.md",), "/d", exclude=("doc/main.md",), parents=True)) == ["d", "d/doc", "d/doc/keep.md"]


@pytest.mark.parametrize("source", ["app/none", "none/./app", "app/./none", "tolib/main.py", "app/main.py/./x"])
def test_a_path_without_wildcards_must_exist(source: str) -> None:
    with pytest.raises(CopyError, match="not found"):
        paths(ModelCopy((source,), "/d", parents=True))


def test_parent_directories_are_made_like_those_of_the_source() -> None:
    made = {i.entry.path: i.entry for i in planned(ModelCopy(("lib/sub/main.py",), "/d", parents=True), SOURCE, IMAGE)}
    sub = made[b"d/lib/sub"]
    assert (sub.mode, sub.uid, sub.gid, sub.mtime) == (0o770, 7, 8, 20)


def test_an_existing_parent_directory_gets_the_mode_and_keeps_its_owner() -> None:
    app = planned(ModelCopy(("app/run",), "/", (1, 2), parents=True), SOURCE, IMAGE)[0].entry
    assert (app.path, app.mode, app.uid, app.gid) == (b"app", 0o711, 9, 9)


def test_a_file_in_the_way_of_a_directory_is_an_error() -> None:
    with pytest.raises(CopyError, match='cannot copy to non-directory: "/lib"'):
        paths(ModelCopy(("lib/main.py",), "/", parents=True))


# --chmod


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        pytest.param("u=rwX,go=rX", {"d": 0o755, "main.py": 0o644, "run": 0o755, "doc": 0o755}, id="X"),
        pytest.param("go-rwx", {"d": 0o700, "main.py": 0o600, "run": 0o700, "doc": 0o700}, id="remove"),
        pytest.param("a+x", {"d": 0o755, "main.py": 0o751, "run": 0o751, "doc": 0o711}, id="add"),
        pytest.param(0o640, {"d": 0o640, "main.py": 0o640, "run": 0o640, "doc": 0o640}, id="octal"),
    ],
)
def test_each_mode_is_changed_on_its_own(mode: int | str, expected: dict[str, int]) -> None:
    found = {i.entry.path.decode().removeprefix("d/"): i.entry for i in planned(ModelCopy(("app",), "/d", None, mode), SOURCE, IMAGE)}
    assert {name: found[name].mode for name in expected} == expected
    assert found["link"].mode == 0o777


# Heredocs


def inline(dest: str, *names: str, **fields: Any) -> dict[str, tuple[int, int, int, int]]:
    files = tuple(InlineFile(name, f"the text of {name}") for name in names)
    request = replace(CopyRequest((), dest, None, inline=files, inline_time=7), **fields)
    items = with_digests(plan_entries(request, MemoryTree(SOURCE), view_of(IMAGE)))
    return {i.entry.path.decode(): (i.entry.mode, i.entry.uid, i.entry.gid, i.entry.mtime) for i in items}


@pytest.mark.parametrize(
    ("dest", "names", "expected"),
    [
        pytest.param("/x", ("EOF",), ["x"], id="a name"),
        pytest.param("/app", ("EOF",), ["app/EOF"], id="into a directory, by the name of the delimiter"),
        pytest.param("/new/", ("a.txt", "b.txt"), ["new", "new/a.txt", "new/b.txt"], id="several"),
    ],
)
def test_a_heredoc_lands_like_a_file(dest: str, names: tuple[str, ...], expected: list[str]) -> None:
    assert sorted(inline(dest, *names)) == expected


def test_a_heredoc_belongs_to_root_and_has_the_time_of_the_build() -> None:
    assert inline("/x", "EOF") == {"x": (0o644, 0, 0, 7)}


def test_chown_and_chmod_count_for_a_heredoc() -> None:
    assert inline("/x", "EOF", owner=(1, 2), mode="u+x") == {"x": (0o744, 1, 2, 7)}


def test_of_several_heredocs_onto_one_name_the_last_one_stays() -> None:
    assert sorted(inline("/x", "a", "b")) == ["x"]


def test_files_and_heredocs_are_copied_together() -> None:
    assert sorted(inline("/new/", "EOF", sources=("top.md", "lib"))) == ["new", *(
        f"new/{name}" for name in ("EOF", "main.py", "sub", "sub/main.py", "top.md"))
    ]  # fmt: skip


def test_content_depends_on_the_text_of_a_heredoc() -> None:
    def content(text: str, time: int) -> list[bytes]:
        request = CopyRequest((), "/x", None, inline=(InlineFile("EOF", text),), inline_time=time)
        return list(content_lines(with_digests(plan_entries(request, MemoryTree(SOURCE), view_of(IMAGE)))))

    assert content("a", 1) == content("a", 2) != content("b", 1)


# From the recipe


def copied(text: str, **fields: Any) -> tuple[InlineFile, ...]:
    return steps(f"FROM base\n{text}", **fields)[-1].inline  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("ARG A=b\nCOPY <<EOF /x\n$A ${A}c \\$A \"$A\" \\\\ '\nEOF", "b bc $A \"b\" \\ '\n", id="E16 expanded"),
        pytest.param("ARG A=b\nCOPY <<'EOF' /x\n$A \\$A\nEOF", "$A \\$A\n", id="E16 quoted"),
        pytest.param("COPY <<-EOF /x\n\t\ta\n\t b\n\tEOF", "a\n b\n", id="tabs removed"),
        pytest.param("COPY <<EOF /x\nEOF", "", id="empty"),
        pytest.param("COPY <<EOF /x\n$NONE.\nEOF", ".\n", id="a variable without a value"),
    ],
)
def test_the_text_of_a_heredoc(text: str, expected: str) -> None:
    (file,) = copied(text)
    assert (file.name, file.text) == ("EOF", expected)


def test_bytes_that_are_not_utf8_are_kept() -> None:
    assert InlineFile("x", "a\udcff").data == b"a\xff"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("COPY --chmod=755 <<EOF /s.sh\nx\nEOF", "COPY --chmod=755 <<EOF /s.sh", id="E60 heredoc"),
        pytest.param("COPY <<-'a' <<b f /d/\na\nb", "COPY f <<a <<b /d/", id="several, behind the files"),
        pytest.param("COPY --chown=1 --chmod=a+x a /b", "COPY --chown=1 --chmod=a+x a /b", id="symbolic mode"),
        pytest.param("COPY --exclude=x a /b", "COPY a /b", id="E60 --exclude is not shown"),
        pytest.param("COPY --chmod=1 --parents a /b", "COPY --parents --chmod=1 a /b", id="--parents comes first"),
    ],
)
def test_the_line_of_history(text: str, line: str) -> None:
    assert history(f"FROM base\n{text}") == [f"{line} # buildkit"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("COPY --exclude=[ a /b", "2:16 --exclude=[: malformed character class", id="a pattern of --exclude"),
        pytest.param("COPY --exclude=! a /b", "2:16 --exclude=!: a lone ! without a pattern", id="a lone exclamation mark"),
        pytest.param("COPY --parents a/[ /b", "2:16 COPY: malformed character class", id="a pattern of --parents"),
        pytest.param("ARG M=9\nCOPY --chmod=$M a /b", "3:14 --chmod=9: expected an octal mode up to 7777", id="a mode"),
        pytest.param("COPY <<EOF /b\n${A?}\nEOF", "2:6 <<EOF: A", id="a variable that has to be set"),
    ],
)
def test_mistakes_that_the_text_shows_are_refused_at_their_place(text: str, message: str) -> None:
    assert refusal(f"FROM base\n{text}").startswith(message)


def test_heredocs_cannot_grow_without_end() -> None:
    text = "COPY <<a <<b /d/\n" + "${A}" * 100 + "\na\n" + "${A}" * 100 + "\nb"
    assert "the expanded words of the recipe exceed the limit" in refusal(f"FROM base\nARG A={'x' * 100_000}\n{text}")
