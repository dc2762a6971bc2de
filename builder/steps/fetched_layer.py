"""Reading a layer for the first time, in one pass: from the registry or the store to table of contents and tree.

One worker reads and verifies the bytes, and another one makes the tree meanwhile, with a pipe between the two.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from io import FileIO
from typing import TYPE_CHECKING, TypeVar

from pybuild.builder.errors import BuildError, PrivilegeError
from pybuild.builder.jobs.one_pass import FetchLayer, MakeFedTree, ReadLayer
from pybuild.builder.workers.tasks import with_background
from pybuild.values import frozen
from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pybuild.builder.files.layer_contents import BlobPlace
    from pybuild.builder.jobs.registry import FetchBlob, FetchedBlob
    from pybuild.builder.workers.pool import OnProgress, Pool
    from pybuild.builder.workers.tasks import Task
    from pybuild.store.formats.digest import Digest
    from pybuild.store.store import Store

R = TypeVar("R")

_PIPE = 1 << 20  # bytes that one worker can be ahead of the other; the usual limit of an ordinary user


@frozen
class LayerFiles:
    """The files that were made of a layer, in the ingest directory. A tree that is not there is made from the others."""

    toc: str
    tree: str | None


async def read_layer_once(
    store: Store, pool: Pool, blob: BlobPlace, diff_id: Digest, below: Sequence[str], *, want_tree: bool
) -> LayerFiles:
    """Read a stored layer and verify its bytes; with `want_tree` also make its tree, if its tar allows that in one pass.

    `below` are the paths of the tables of contents of the layers under it, topmost first. Several layers can be read at
    the same time. Raises DigestMismatch, InvalidImage or UnsafePath if the layer is wrong, BuildError.
    """
    job = ReadLayer(blob, str(diff_id), tuple(below), store.ingest.new_path())
    _, tree = await _with_tree(store, pool, lambda files: pool.job(job, None, files), want_tree)
    return LayerFiles(job.toc, tree)


async def fetch_layer_once(
    store: Store,
    pool: Pool,
    download: FetchBlob,
    diff_id: Digest,
    below: Sequence[str],
    *,
    want_tree: bool,
    on_progress: OnProgress,
) -> tuple[FetchedBlob, LayerFiles | None]:
    """Download a layer, verify it, and read it while it arrives, as `read_layer_once` does.

    None in place of the files: the blob is right, and could not be read. Raises BuildError, DigestMismatch, RemoteError.
    """
    job = FetchLayer(download, str(diff_id), tuple(below), store.ingest.new_path())
    fetched, tree = await _with_tree(
        store, pool, lambda files: pool.job_without_core(job, on_progress, files), want_tree
    )
    return fetched.blob, LayerFiles(job.toc, tree) if fetched.is_read else None


async def _with_tree(
    store: Store, pool: Pool, read: Callable[[Sequence[FileIO]], Task[R]], want_tree: bool
) -> tuple[R, str | None]:
    """What a job returns that reads a layer, and the tree that is made meanwhile, if it is wanted and can be made."""
    if not want_tree:
        return await read(()), None
    directory = store.ingest.new_path()
    reader, writer = _pipe()
    whole = False
    failures: list[PybuildError] = []

    async def make() -> None:
        nonlocal whole
        # The job that reads can have a core, and waits for this one. If this one waited for a core too, all cores could
        # be held by jobs that read.
        try:
            if await pool.overlay_obstacle(store.ingest.new_path):
                reader.close()  # steps do not need trees
                return
            whole = (await pool.job_without_core(MakeFedTree(directory), None, (reader,))).whole
        except PrivilegeError:
            reader.close()  # the RUN that needs the tree says what is missing, if it comes to that

    async def read_to_end() -> R | None:
        try:
            return await read((writer,))
        except PybuildError as error:
            writer.close()
            failures.append(error)  # the other job removes what it has made, instead of being killed
            return None

    try:
        result = await with_background(read_to_end(), make())
    finally:
        reader.close()
        writer.close()
    if failures:
        raise failures[0]
    assert result is not None
    return result, directory if whole else None


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
