"""Reading a layer for the first time, in one pass: from the registry or the store to table of contents and tree.

One worker reads and verifies the bytes, and another one makes the tree meanwhile, with a pipe between the two.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from io import FileIO
from typing import TYPE_CHECKING

from pybuild.builder.errors import BuildError, PrivilegeError
from pybuild.builder.files.layer_contents import BlobPlace
from pybuild.builder.jobs.one_pass import FetchLayer, MakeFedTree, ReadLayer
from pybuild.builder.jobs.registry import RegistryAccess, WantedBlob
from pybuild.builder.workers.tasks import with_background
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.builder.jobs.job import Done
    from pybuild.builder.workers.pool import Pool
    from pybuild.builder.workers.tasks import Task
    from pybuild.store.formats.digest import Digest
    from pybuild.store.store import Store

_PIPE = 1 << 20  # bytes that one worker can be ahead of the other; the usual limit of an ordinary user


@frozen
class RegistryLayer:
    """A layer in a registry. It is downloaded to `blob.path`; the size of that file shows the progress."""

    access: RegistryAccess
    reference: str
    blob: WantedBlob


@frozen
class LayerFiles:
    """The files of a layer that was read: its blob is where it was, or at the path of the download.

    Table of contents and tree are in the ingest directory. Without a tree, it has to be made from the other two.
    """

    blob: str
    toc: str
    tree: str | None


async def read_layer_once(
    store: Store,
    pool: Pool,
    source: BlobPlace | RegistryLayer,
    diff_id: Digest,
    below: Sequence[str],
    *,
    want_tree: bool,
) -> LayerFiles:
    """Read a layer and verify its bytes; with `want_tree` also make its tree, if its tar allows that in one pass.

    `below` are the paths of the tables of contents of the layers under it, topmost first. Several layers can be read at
    the same time. Raises DigestMismatch, InvalidImage or UnsafePath if the layer is wrong, BuildError, RemoteError.
    """
    toc = store.ingest.new_path()
    if not want_tree:
        await _reading(pool, source, diff_id, below, toc, ())
        return LayerFiles(_path(source), toc, None)
    directory = store.ingest.new_path()
    reader, writer = _pipe()
    whole: list[bool] = []

    async def make() -> None:
        # The reading job has a core, and waits for this one. If this one waited for a core too, all cores could be
        # held by reading jobs.
        try:
            whole.append((await pool.job_without_core(MakeFedTree(directory), (reader,))).whole)
        except PrivilegeError:
            reader.close()  # the RUN that needs the tree says what is missing, if it comes to that

    try:
        await with_background(_reading(pool, source, diff_id, below, toc, (writer,)), make())
    finally:
        reader.close()
        writer.close()
    return LayerFiles(_path(source), toc, directory if whole == [True] else None)


def _reading(
    pool: Pool,
    source: BlobPlace | RegistryLayer,
    diff_id: Digest,
    below: Sequence[str],
    toc: str,
    files: Sequence[FileIO],
) -> Task[Done]:
    if isinstance(source, BlobPlace):
        return pool.job(ReadLayer(source, str(diff_id), tuple(below), toc), files=files)
    job = FetchLayer(source.access, source.reference, source.blob, str(diff_id), tuple(below), toc)
    return pool.job_without_core(job, files)


def _path(source: BlobPlace | RegistryLayer) -> str:
    return source.path if isinstance(source, BlobPlace) else source.blob.path


def _pipe() -> tuple[FileIO, FileIO]:
    """Both ends of a pipe. Raises BuildError."""
    try:
        reader, writer = os.pipe2(os.O_CLOEXEC)
    except OSError as error:
        raise BuildError(
            f"cannot make a pipe between two workers: {error.strerror}",
            hint="this process or the machine has its limit of open files",
        ) from error
    with contextlib.suppress(OSError):  # a smaller pipe is slower
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE)
    return FileIO(reader, "rb"), FileIO(writer, "wb")
