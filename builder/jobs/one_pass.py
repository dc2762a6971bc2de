"""The jobs that read a layer once: its bytes become a verified blob, a table of contents and a tree in one pass.

`ReadLayer` or `FetchLayer` reads, outside of the namespace. If a pipe came with the job it says there what it reads, and
`MakeFedTree` makes the tree inside the namespace, at the same time. Whichever of the two fails or dies, the other one
ends: it finds the pipe closed. All that they write lies in the ingest directory until the main process has both results.
"""

from __future__ import annotations

import hashlib
import os
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from pybuild.builder.files.layer_contents import BlobPlace
from pybuild.builder.jobs.descriptors import given_descriptors
from pybuild.builder.jobs.job import Done
from pybuild.builder.jobs.layer import new_tree
from pybuild.builder.jobs.registry import FetchBlob, FetchedBlob
from pybuild.store.errors import DigestMismatch
from pybuild.store.formats.compression import Compression, DecompressingReader
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import COMPRESSIONS
from pybuild.store.formats.pipeline import Aside
from pybuild.store.formats.toc import Toc
from pybuild.store.layers.errors import layer_errors
from pybuild.store.layers.fed_tree import make_fed_tree
from pybuild.store.layers.read import read_layer
from pybuild.store.layers.tree_feed import TreeFeed
from pybuild.store.layers.view import View
from pybuild.store.system.directories import opened_directory, remove_tree
from pybuild.values import frozen
from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from pybuild.store.system.streams import Readable


@frozen
class ReadLayer:
    """Read a stored layer for the first time: verify it, and write its table of contents to `toc`.

    `below` are the tables of contents of the layers under it, topmost first.
    """

    in_namespace: ClassVar[bool] = False
    blob: BlobPlace
    diff_id: str
    below: tuple[str, ...]
    toc: str

    def run(self) -> Done:
        with layer_errors(self.blob.digest):
            _read(
                self.blob.open_compressed(),
                Compression(self.blob.compression),
                self.diff_id,
                self.below,
                self.toc,
                _feed(),
            )
        return Done()


@frozen
class FetchedLayer:
    """A layer was downloaded. `is_read`: it has a table of contents. If not, reading it from the store tells why."""

    blob: FetchedBlob
    is_read: bool


@frozen
class FetchLayer:
    """Download a layer, and read it while it arrives, as `ReadLayer` does.

    The blob is right if the job succeeds. It is not read if it is not a valid layer, or if the download had to begin again.
    """

    in_namespace: ClassVar[bool] = False
    download: FetchBlob
    diff_id: str
    below: tuple[str, ...]
    toc: str

    def run(self) -> FetchedLayer:
        from pybuild.remote.registry.followed import FollowedDownload, Restarted

        wanted, feed = self.download, _feed()
        is_read = True
        with (
            wanted.access.client() as client,
            open(wanted.path, "x+b", buffering=0) as file,
            FollowedDownload(partial(wanted.download, client, file), file) as blob,
        ):
            try:
                _read(blob, COMPRESSIONS[wanted.media_type], self.diff_id, self.below, self.toc, feed)
            except (PybuildError, Restarted):
                is_read = False
                if feed is not None:
                    feed.stop()
            blob.finish()
            return FetchedLayer(FetchedBlob(client.passed_over, client.notes), is_read)


@frozen
class FedTree:
    """Whether the tree is whole. If not, nothing is left of it."""

    whole: bool


@frozen
class MakeFedTree:
    """Make the tree of the layer that another worker reads: `fs` in the new `directory`."""

    in_namespace: ClassVar[bool] = True
    directory: str

    def run(self) -> FedTree:
        (stream,) = given_descriptors()
        with new_tree(self.directory) as fd:
            whole = make_fed_tree(stream, fd)
        if not whole:
            parent, name = os.path.split(self.directory)
            with opened_directory(parent) as fd:
                remove_tree(fd, name)
        return FedTree(whole)


def _feed() -> TreeFeed | None:
    """Where to say what is read, if another worker wants to know."""
    return next((TreeFeed(fd) for fd in given_descriptors()), None)


def _read(
    blob: Readable, compression: Compression, diff_id: str, below: tuple[str, ...], toc: str, feed: TreeFeed | None
) -> None:
    """Read a blob, which verifies itself at its end. Raises DigestMismatch, InvalidImage or UnsafePath."""
    digest = hashlib.sha256()
    with Aside(digest.update) as hashed:
        tar = DecompressingReader(blob, compression, hashed=False, observer=hashed.write)
        entries = read_layer(tar, View([Toc.open(path) for path in below]), feed)
        tar.finish()
        hashed.finish()
    found = Digest("sha256", digest.hexdigest())
    if str(found) != diff_id:
        raise DigestMismatch(f"expands to {found}, the config promises {diff_id}")
    Toc.write(toc, entries)
