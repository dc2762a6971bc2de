"""Reads a layer in one pass with its tree, as two workers do it side by side, but one after the other in one process."""

from __future__ import annotations

import io
import os
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pybuild.store.formats.toc import Kind
from pybuild.store.layers.fed_tree import make_fed_tree
from pybuild.store.layers.read import read_layer
from pybuild.store.layers.tree_feed import TreeFeed
from pybuild.store.system.directories import opened_directory, remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.store.formats.toc import Entry
    from pybuild.store.layers.read import LowerLayers


@contextmanager
def unused_path() -> Iterator[str]:
    """A path for a tree, which is removed afterwards, however deep it is."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            yield f"{scratch}/tree"
        finally:
            with opened_directory(scratch) as fd:
                remove_tree(fd, "tree")


@contextmanager
def stream_file() -> Iterator[int]:
    """A file in memory in place of the pipe between the workers."""
    fd = os.memfd_create("stream")
    try:
        yield fd
    finally:
        os.close(fd)


def in_one_pass(data: bytes, below: LowerLayers, root: str) -> tuple[list[Entry], bool]:
    """The entries of a tar, and whether its tree in the new directory `root` is whole.

    Raises what `read_layer` raises; the tree is not whole then.
    """
    with stream_file() as stream:
        try:
            entries = read_layer(io.BytesIO(data), below, TreeFeed(stream))
        except BaseException:
            assert not make_from(stream, root)
            raise
        return entries, make_from(stream, root)


def assert_same(
    tree: dict[str, tuple[object, ...]], other: dict[str, tuple[object, ...]], entries: list[Entry]
) -> None:
    """Two trees of a layer, as `listing` gives them, differ in nothing. What the layer gives no time has any."""
    timeless = {os.fsdecode(entry.path) for entry in entries if entry.kind is Kind.WHITEOUT}
    if not any(entry.path == b"" for entry in entries):
        timeless.add("")
    first, second = (
        {path: (*row[:4], None, *row[5:]) if path in timeless else row for path, row in found.items()}
        for found in (tree, other)
    )
    assert first == second


def make_from(stream: int, root: str) -> bool:
    """Make a tree in the new directory `root` from what a file holds; return whether it is whole."""
    os.lseek(stream, 0, os.SEEK_SET)
    os.mkdir(root, 0o755)
    with opened_directory(root) as fd:
        return make_fed_tree(stream, fd)
