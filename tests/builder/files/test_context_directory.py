"""The build context: ignored files, files of every kind and name, files that change, and the memo."""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings

from pybuild.builder.errors import BuildError, CopyError
from pybuild.builder.files.context_directory import ContextTree
from pybuild.builder.files.copy import plan_entries
from pybuild.builder.files.copy_layer import with_digests
from pybuild.parser import IgnoreFile
from pybuild.store.formats.toc import Kind
from pybuild.store.objects.context_memo import Memo
from pybuild.store.system.directories import remove_tree
from pybuild.values.limits import applied
from tests.support.copies import FILES, afterwards, on_disk, request, trees, view_of
from tests.support.copymodel import Directory, ModelCopy, flat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

from contextlib import contextmanager

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
CAPABILITY_OF_A_NAMESPACE = bytes.fromhex("010000030004000000000000000000000000000010270000")


@contextmanager
def opened(root: Path | str, ignore: str | None = None) -> Iterator[ContextTree]:
    tree = ContextTree(str(root), None if ignore is None else IgnoreFile.parse(ignore))
    try:
        yield tree
    finally:
        tree.close()


def everything(tree: ContextTree) -> list[str]:
    """All paths of a context, directories with a slash."""
    found = []
    pending = [b""]
    while pending:
        for entry in tree.readdir(pending.pop()):
            found.append(os.fsdecode(entry.path) + ("/" if entry.kind is Kind.DIRECTORY else ""))
            if entry.kind is Kind.DIRECTORY:
                pending.append(entry.path)
    return sorted(found)


# Ignore files


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    for name in (".git/config", "a.log", "deep/er/b.log", "deep/er/keep", "deep/x", "src/main.c", "src/main.o", "top"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "hollow").mkdir()
    return root


ALL = [
    ".git/", ".git/config", "a.log", "deep/", "deep/er/", "deep/er/b.log", "deep/er/keep", "deep/x", "hollow/",
    "src/", "src/main.c", "src/main.o", "top",
]  # fmt: skip


def without(*gone: str) -> list[str]:
    return [path for path in ALL if path not in gone]


DEEP = ("deep/", "deep/er/", "deep/er/b.log", "deep/er/keep", "deep/x")


@pytest.mark.parametrize(
    ("ignore", "left"),
    [
        pytest.param("", ALL, id="nothing"),
        pytest.param("# top\n\n  \n", ALL, id="E54 comments and blank lines"),
        pytest.param("top", without("top"), id="a file"),
        pytest.param("  /top  ", without("top"), id="E54 blanks and a leading slash"),
        pytest.param("./src/../top", without("top"), id="E54 clean"),
        pytest.param("deep", without(*DEEP), id="a directory"),
        pytest.param("deep/", without(*DEEP), id="E54 a slash behind it means nothing"),
        pytest.param("*.log", without("a.log"), id="E54 a pattern is of the root only"),
        pytest.param("**/*.log", without("a.log", "deep/er/b.log"), id="E54 two stars at any depth"),
        pytest.param("*/*.o", without("src/main.o"), id="one star for one name"),
        pytest.param("deep/**", without(*DEEP[1:]), id="all in a directory, but not itself"),
        pytest.param("deep\n!deep/er/keep", without("deep/er/b.log", "deep/x"), id="E55 taken back, with its parents"),
        pytest.param("!deep/er/keep\ndeep", without(*DEEP), id="E55 the last line wins"),
        pytest.param("*\n!src/*.c", ["src/", "src/main.c"], id="E55 all but some"),
        pytest.param("**\n!**/keep", ["deep/", "deep/er/", "deep/er/keep"], id="E55 all but one name anywhere"),
        pytest.param("*\n!nowhere/at/all", [], id="E55 taking back what is not there"),
        pytest.param("*\n!hollow", ["hollow/"], id="E55 an empty directory"),
        pytest.param("*\n!deep", [*DEEP], id="E55 a directory with what is in it"),
        pytest.param("*\n!deep\ndeep/er", ["deep/", "deep/x"], id="E55 out, in, out"),
        pytest.param("# x\n #top\n", ALL, id="E54 a number sign behind a blank is a pattern"),
        pytest.param("?op", without("top"), id="a question mark"),
        pytest.param("[s-t]op", without("top"), id="a class"),
        pytest.param("\ufefftop", without("top"), id="a byte order mark"),
        pytest.param("top\r\n*.log\r\n", without("top", "a.log"), id="lines of another system"),
    ],
)  # fmt: skip
def test_files_that_an_ignore_file_includes(project: Path, ignore: str, left: list[str]) -> None:
    with opened(project, ignore) as tree:
        assert everything(tree) == sorted(left)


def test_an_ignored_file_is_not_found_by_its_name(project: Path) -> None:
    with opened(project, "deep\n!deep/x") as tree:
        assert tree.lookup(b"deep/er/keep") is None
        assert tree.lookup(b"deep/x") is not None
        with pytest.raises(CopyError, match='"deep/er/keep": not found'):
            plan_entries(request(ModelCopy(("deep/er/keep",), "/x")), tree, view_of(Directory()))


def test_a_context_can_be_nested_deeper_than_the_recursion_limit(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(600):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("keep", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    with opened(tmp_path, "*\n!**/keep") as tree:
        assert len(everything(tree)) == 601
    here = os.open(tmp_path, os.O_RDONLY)
    remove_tree(here, "d")
    os.close(here)


# Kinds of files


def test_files_of_every_kind(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("no/where")
    (tmp_path / "directory").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "fifo", 0o600)
    os.mknod(tmp_path / "device", 0o020600, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listening, opened(tmp_path) as tree:
        listening.bind(str(tmp_path / "socket"))
        kinds = {entry.path.decode(): (entry.kind, entry.size) for entry in tree.readdir(b"")}
    assert kinds == {
        "device": (Kind.CHAR, 0), "directory": (Kind.DIRECTORY, 0), "fifo": (Kind.FIFO, 0), "file": (Kind.FILE, 1),
        "link": (Kind.SYMLINK, 0), "socket": (Kind.FILE, 0),
    }  # fmt: skip


@pytest.mark.parametrize("mode", [0o000, 0o644, 0o4755, 0o2755, 0o1777, 0o7777])
def test_all_bits_of_the_mode_are_kept(tmp_path: Path, mode: int) -> None:
    (tmp_path / "f").touch()
    (tmp_path / "f").chmod(mode)
    with opened(tmp_path) as tree:
        (entry,) = tree.readdir(b"")
    assert (entry.mode, entry.uid, entry.gid) == (mode, 0, 0)


def test_owners_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    os.chown(tmp_path / "f", 1234, 4321)
    with opened(tmp_path) as tree:
        (entry,) = tree.readdir(b"")
    assert (entry.uid, entry.gid) == (0, 0)


@pytest.mark.parametrize("seconds", [-1.5, 0, 0.999, 4_000_000_000.5])
def test_times_are_rounded_down_to_seconds(tmp_path: Path, seconds: float) -> None:
    (tmp_path / "f").touch()
    os.utime(tmp_path / "f", (0, seconds))
    with opened(tmp_path) as tree:
        (entry,) = tree.readdir(b"")
    assert entry.mtime == seconds // 1


NAMES = [b"\xff\xfe", b"a\nb", b" ", b"'\"$`\\", b"-rf", b"*", "ü".encode(), "u\u0308".encode(), b"x" * 255, b"..."]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_can_be_any_bytes(tmp_path: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    with open(path, "wb") as file:
        file.write(b"content")
    with opened(tmp_path) as tree:
        (entry,) = tree.readdir(b"")
        assert entry.path == name
        assert b"".join(tree.chunks(entry)) == b"content"


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        pytest.param(CAPABILITY, CAPABILITY, id="unchanged"),
        pytest.param(CAPABILITY_OF_A_NAMESPACE, CAPABILITY, id="without the root id of a namespace"),
    ],
)
def test_capabilities_are_the_only_xattrs_that_are_kept(tmp_path: Path, value: bytes, kept: bytes) -> None:
    (tmp_path / "f").write_bytes(b"x")
    os.setxattr(tmp_path / "f", "security.capability", value)
    os.setxattr(tmp_path / "f", "user.other", b"x")
    with opened(tmp_path) as tree:
        (entry,) = tree.readdir(b"")
    assert entry.xattrs == ((b"security.capability", kept),)


# Files that change


def changing(tmp_path: Path, change: str) -> AbstractContextManager[ContextTree]:
    """A context with a file that changes after it was listed."""
    path = tmp_path / "f"
    path.write_text("before")

    @contextmanager
    def listed() -> Iterator[ContextTree]:
        with opened(tmp_path) as tree:
            tree.readdir(b"")
            match change:
                case "longer":
                    path.write_text("before and after")
                case "shorter":
                    path.write_text("b")
                case "removed":
                    path.unlink()
                case "a link":
                    path.unlink()
                    path.symlink_to("/etc/passwd")
                case "a fifo":
                    path.unlink()
                    os.mkfifo(path)
                case _:
                    path.unlink()
                    path.mkdir()
            yield tree

    return listed()


@pytest.mark.parametrize("change", ["longer", "shorter", "removed", "a link", "a fifo", "a directory"])
def test_a_file_that_changed_after_the_listing_is_an_error(tmp_path: Path, change: str) -> None:
    with changing(tmp_path, change) as tree, pytest.raises(CopyError) as caught:
        plan = plan_entries(request(ModelCopy(("f",), "/f", (0, 0))), tree, view_of(Directory()))
        with_digests(plan)
    assert '"f" of the context' in str(caught.value) or 'cannot read "f"' in str(caught.value)


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(3 << 20))
    with opened(tmp_path) as tree, pytest.raises(CopyError, match="changed while it was copied") as caught:
        chunks = tree.chunks(tree.readdir(b"")[0])
        next(chunks)
        os.utime(path, (1, 1))
        list(chunks)
    assert caught.value.hint is not None


def test_a_small_file_that_is_read_in_parts_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    read = os.read
    monkeypatch.setattr(os, "read", lambda fd, size: read(fd, min(size, 4)))
    with opened(tmp_path) as tree:
        (entry,) = tree.readdir(b"")
        assert b"".join(tree.chunks(entry)) == b"0123456789"


def test_a_file_that_is_removed_during_the_listing_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stays").touch()
    (tmp_path / "goes").touch()
    listdir = os.listdir

    def and_then_one_goes(fd: int) -> list[str]:
        names = listdir(fd)
        (tmp_path / "goes").unlink()
        return names

    monkeypatch.setattr(os, "listdir", and_then_one_goes)
    with opened(tmp_path) as tree:
        assert everything(tree) == ["stays"]


def test_a_directory_that_becomes_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with opened(tmp_path) as tree:
        tree.readdir(b"")
        (tmp_path / "d").rmdir()
        (tmp_path / "d").symlink_to("/etc")
        with pytest.raises(CopyError, match='cannot read the directory "d" of the context'):
            tree.readdir(b"d")


# Files that are known


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that says that all files were written long ago."""
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + 60_000_000_000)


class Known:
    """A directory with its memo."""

    def __init__(self, root: Path, memo: Path) -> None:
        self.root, self.memo = root, memo

    def look(self) -> dict[str, tuple[bool, bytes]]:
        """File -> whether the memo knew its content, and the digest of the content."""
        tree = ContextTree(str(self.root), None, memo=Memo(str(self.memo)))
        try:
            plan = plan_entries(request(ModelCopy((".",), "/", (0, 0))), tree, view_of(Directory()))
            known = {item.entry.path: bool(item.entry.sha256) for item in plan}
            items = [item for item in with_digests(plan) if item.entry.kind is Kind.FILE]
            tree.learn((item.source, item.entry.sha256) for item in items if item.source is not None)
            tree.save_memo(f"{self.memo}.new")
        finally:
            tree.close()
        for item in items:
            assert item.entry.sha256 == hashlib.sha256((self.root / os.fsdecode(item.entry.path)).read_bytes()).digest()
        return {os.fsdecode(item.entry.path): (known[item.entry.path], item.entry.sha256) for item in items}

    def known(self) -> list[str]:
        return sorted(path for path, (known, _) in self.look().items() if known)


@pytest.fixture
def directory(tmp_path: Path) -> Known:
    """A context with a memo."""
    root = tmp_path / "context"
    (root / "d").mkdir(parents=True)
    for name, content in {"a": b"one", "b": b"two", "d/c": b"three", "d/empty": b""}.items():
        (root / name).write_bytes(content)
        os.utime(root / name, (100, 100))
    os.link(root / "a", root / "d/again")
    (root / "link").symlink_to("a")
    return Known(root, tmp_path / "memo")


@pytest.mark.usefixtures("later")
def test_a_file_that_did_not_change_is_read_once(directory: Known) -> None:
    assert directory.known() == []
    assert directory.known() == ["a", "b", "d/again", "d/c", "d/empty"]


def test_a_file_that_was_written_just_now_is_not_remembered(directory: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in ("a", "b", "d/c", "d/empty"):
        os.utime(directory.root / file, (100, 100))
    written = (directory.root / "a").stat().st_ctime_ns
    monkeypatch.setattr(time, "time_ns", lambda: written + 50_000_000)
    assert directory.known() == directory.known() == []


def replaced(path: Path) -> None:
    (path.parent / "new").write_bytes(b"owt")
    os.utime(path.parent / "new", (100, 100))
    os.rename(path.parent / "new", path)


def rewritten(path: Path) -> None:
    path.write_bytes(b"owt")
    os.utime(path, (100, 100))


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda path: path.write_bytes(b"other"), id="another size"),
        pytest.param(rewritten, id="the same size and time"),
        pytest.param(replaced, id="another file of the same size and time"),
        pytest.param(lambda path: path.chmod(0o700), id="another mode"),
        pytest.param(lambda path: os.setxattr(path, "security.capability", CAPABILITY), id="a capability"),
    ],
)
def test_a_file_that_changed_in_any_way_is_read_again(directory: Known, change: Callable[[Path], object]) -> None:
    directory.look()
    change(directory.root / "b")
    assert directory.known() == ["a", "d/again", "d/c", "d/empty"]


@pytest.mark.usefixtures("later")
def test_a_file_with_capabilities_is_read_each_time(directory: Known) -> None:
    os.setxattr(directory.root / "b", "security.capability", CAPABILITY)
    for _ in range(2):
        assert "b" not in directory.known()
        tree = ContextTree(str(directory.root), None, memo=Memo(str(directory.memo)))
        assert [entry.xattrs[0][1] for entry in tree.readdir(b"") if entry.xattrs] == [CAPABILITY]
        tree.close()


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("change", [rewritten, replaced])
def test_a_file_that_changed_between_listing_and_reading_is_not_remembered(
    directory: Known, change: Callable[[Path], object]
) -> None:
    tree = ContextTree(str(directory.root), None, memo=Memo(str(directory.memo)))
    entry = tree.lookup(b"b")
    assert entry is not None
    change(directory.root / "b")
    content = b"".join(tree.chunks(entry))
    tree.learn([(entry, hashlib.sha256(content).digest())])
    tree.save_memo(f"{directory.memo}.new")
    tree.close()
    assert content == b"owt"
    assert "b" not in directory.known()


# Limits


def test_a_context_with_too_many_files_is_refused(tmp_path: Path) -> None:
    for file in ("a", "b", "c"):
        (tmp_path / file).write_text("12345")
    with (
        applied({"context-entries": 2}),
        opened(tmp_path) as tree,
        pytest.raises(CopyError, match="exceeds the limit of 2 entries") as caught,
    ):
        tree.readdir(b"")
    assert str(caught.value.hint).startswith("exclude files that the build does not need in .dockerignore, or raise the limit context-entries")


def test_a_large_file_that_is_not_copied_costs_nothing(tmp_path: Path) -> None:
    with (tmp_path / "large").open("xb") as file:
        file.truncate(1 << 43)
    with opened(tmp_path) as tree:
        assert everything(tree) == ["large"]


def test_ignored_files_do_not_count(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / str(number)).touch()
    with applied({"context-entries": 2}), opened(tmp_path, "*\n!3") as tree:
        assert everything(tree) == ["3"]


def test_a_context_that_is_not_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(BuildError, match="cannot open the context"):
        ContextTree(str(tmp_path / "f"), None)


# Directories on the disk against trees in memory


@settings(max_examples=100)
@given(trees(FILES))
def test_a_directory_is_copied_like_the_same_tree_in_memory(source: Directory) -> None:
    copy = ModelCopy((".",), "/", (0, 0))
    with tempfile.TemporaryDirectory() as root:
        on_disk(source, root)
        with opened(root) as tree:
            items = with_digests(plan_entries(request(copy), tree, view_of(Directory())))
    assert afterwards(items, source, Directory()) == flat(copy.apply(source, Directory()))
