"""Layers with sparse files: their blobs are what they would be without holes."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

import pytest

from pybuild.store.formats.compression import Compression
from pybuild.store.formats.toc import Entry, Kind
from pybuild.store.layers.tree import make_tree
from pybuild.store.layers.tree_files import TreeContent
from pybuild.store.layers.write import WrittenLayer, write_layer
from pybuild.store.system.holes import create_sparse, size_on_disk

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
SIZE = 300 * MIB + 12_345
DATA = ((0, b"begin"), (100 * MIB + 3, b"middle" * 20_000), (SIZE - 1, b"."))
# Of the same files before pybuild knew holes.
DIFF_ID = "sha256:036efe25aeacb40f53a486e54e9b390797d90406586cfed19ec4324f6497f1e0"


def make_files(root: Path, *, holes: bool) -> list[Entry]:
    """Two files of the same content, with holes or with written zeros; returns their entries."""
    for name in ("a", "b"):
        with open(root / name, "wb") as file:
            if not holes:
                for _ in range(SIZE // MIB + 1):
                    file.write(bytes(MIB))
            for at, data in DATA:
                file.seek(at)
                file.write(data)
            file.truncate(SIZE)
    return [Entry(name, Kind.FILE, 0o644, mtime=1, size=SIZE) for name in (b"a", b"b")]


def layer_of(root: Path, entries: list[Entry], compression: Compression) -> WrittenLayer:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with TreeContent(fd) as content:
            return write_layer(entries, content, io.BytesIO(), compression)
    finally:
        os.close(fd)


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD])
def test_holes_do_not_change_a_layer(tmp_path: Path, compression: Compression) -> None:
    layers = []
    for holes in (False, True):
        root = tmp_path / str(holes)
        root.mkdir()
        layers.append(layer_of(root, make_files(root, holes=holes), compression))
    assert layers[0] == layers[1]
    assert str(layers[0].diff_id) == DIFF_ID
    assert layers[0].entries[0].sha256 == layers[0].entries[1].sha256


def test_an_uncompressed_blob_and_the_tree_made_of_it_have_holes(tmp_path: Path) -> None:
    entries, tree, blob = make_files(tmp_path, holes=False), tmp_path / "tree", tmp_path / "blob"
    tree.mkdir()
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with TreeContent(fd) as content, create_sparse(str(blob)) as out:
        layer = write_layer(entries, content, out, Compression.UNCOMPRESSED)
    os.close(fd)
    fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    with open(blob, "rb") as tar:
        make_tree(layer.entries, tar, fd)
    os.close(fd)
    assert str(layer.diff_id) == DIFF_ID
    for path, size in ((tree / "a", SIZE), (tree / "b", SIZE), (blob, layer.size)):
        assert path.stat().st_size == size
        assert size_on_disk(str(path), size) < 2 * MIB
    with open(tree / "b", "rb") as found, open(tmp_path / "b", "rb") as wanted:
        assert all(found.read(MIB) == wanted.read(MIB) for _ in range(SIZE // MIB + 1))
