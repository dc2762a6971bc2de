"""Untrusted paths: opening a file or looking up an entry below a root never leads out of it."""

from __future__ import annotations

import errno
import os
import tempfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.builder.errors import CopyError
from pybuild.builder.files.context_directory import ContextTree
from pybuild.store.formats.toc import Kind
from pybuild.store.layers.view import resolve
from pybuild.store.system.files import open_in_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """A root with links of every kind, and a secret next to it."""
    (tmp_path / "secret").write_text("outside")
    inside = tmp_path / "root"
    (inside / "dir/deep").mkdir(parents=True)
    (inside / "file").write_text("inside")
    (inside / "dir/file").write_text("deep inside")
    (inside / "secret").write_text("clamped")
    for name, target in {
        "absolute": "/dir/file",
        "up": "../../../../secret",
        "dir/deep/up": "../../../secret",
        "host": str(tmp_path / "secret"),
        "loop": "loop",
        "chain": "absolute",
        "magic": "/proc/self/root/etc/passwd",
    }.items():
        (inside / name).symlink_to(target)
    fd = os.open(inside, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def read(root: int, path: str) -> str:
    with os.fdopen(open_in_root(root, os.fsencode(path), os.O_RDONLY)) as file:
        return file.read()


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("file", "inside"),
        ("/file", "inside"),
        ("dir/../file", "inside"),
        ("../../file", "inside"),
        ("absolute", "deep inside"),
        ("chain", "deep inside"),
        ("up", "clamped"),
        ("dir/deep/up", "clamped"),
    ],
)
def test_paths_and_links_are_resolved_inside_the_root(root: int, path: str, content: str) -> None:
    assert read(root, path) == content


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("host", errno.ENOENT),
        ("magic", errno.ENOENT),
        ("loop", errno.ELOOP),
        ("file/x", errno.ENOTDIR),
        ("missing", errno.ENOENT),
    ],
)
def test_paths_outside_the_root_are_not_found(root: int, path: str, number: int) -> None:
    with pytest.raises(OSError) as caught:
        read(root, path)
    assert caught.value.errno == number


@pytest.mark.parametrize("path", ["self/exe", "self/cwd/etc/passwd", "self/root/etc/passwd", "self/fd/0"])
def test_magic_links_of_a_proc_inside_the_root_are_not_followed(path: str) -> None:
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError) as caught:
            open_in_root(proc, path.encode(), os.O_RDONLY)
    finally:
        os.close(proc)
    assert caught.value.errno == errno.ELOOP


def test_descriptors_are_close_on_exec(root: int) -> None:
    fd = open_in_root(root, b"file", os.O_RDONLY)
    assert not os.get_inheritable(fd)
    os.close(fd)


NAMES = st.sampled_from(["a", "b", "c"])
TARGETS = st.lists(st.sampled_from(["a", "b", "c", "..", ".", ""]), min_size=1, max_size=4).map("/".join).filter(bool)


@settings(max_examples=150)
@given(st.dictionaries(NAMES, TARGETS, max_size=3), st.dictionaries(NAMES, TARGETS, max_size=2), TARGETS)
def test_links_are_resolved_as_the_kernel_does(top: dict[str, str], below: dict[str, str], path: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        os.mkdir(f"{place}/b")
        for directory, links in ((place, top), (f"{place}/b", below)):
            for name, target in links.items():
                if not os.path.lexists(f"{directory}/{name}"):
                    os.symlink(target, f"{directory}/{name}")
        found = kernel_resolves(place, path)
        tree = ContextTree(place, None)
        try:
            if found is not None:
                assert resolve(tree.lookup, path.encode()) == found
        finally:
            tree.close()


def kernel_resolves(place: str, path: str) -> bytes | None:
    """The file that a path leads to below a root; None if the kernel finds nothing."""
    root = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fd = open_in_root(root, path.encode(), os.O_PATH)
    except OSError:
        return None
    finally:
        os.close(root)
    found = os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), place)
    os.close(fd)
    return b"" if found == "." else found.encode()


def test_a_context_never_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    tree = ContextTree(str(tmp_path), None)
    entry = tree.lookup(b"link")
    assert entry is not None and entry.kind is Kind.SYMLINK
    assert tree.lookup(b"link/passwd") is None
    with pytest.raises(CopyError, match="cannot read the directory"):
        tree.readdir(b"link")
    tree.close()
