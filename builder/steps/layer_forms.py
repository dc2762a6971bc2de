"""The forms of a changeset, made on demand: its tree when a step mounts it, its tar when an image needs the layer.

A layer that is elsewhere is fetched first, through the `fetcher`.

The jobs are imported only when there is something to make: a cached build finds every form in the store.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.builder.errors import (
    BuildError,
    ClaimedTableWrong,
    LayerUnavailable,
    NotCached,
    PrivilegeError,
    SandboxError,
)
from pybuild.builder.workers.tasks import gather
from pybuild.store.errors import CannotWrite, DigestMismatch, InvalidImage, NotFound, StoreError
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.store.objects.changesets import LayerBlob

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.builder.files.layer_contents import LayerPlace
    from pybuild.builder.jobs.job import Written
    from pybuild.builder.jobs.registry import FetchBlob, FetchedBlob
    from pybuild.builder.sources.layers import LayerFetcher
    from pybuild.builder.steps.fetched_layer import LayerFiles
    from pybuild.builder.workers.pool import OnProgress, Pool
    from pybuild.store.store import Store
    from pybuild.values.errors import PybuildError

MAX_LOWERS = 499  # overlayfs takes 500 lower layers; one is the scaffold


async def ensure_tocs(fetcher: LayerFetcher, snapshot: int | None) -> None:
    """Make the missing tables of contents of a snapshot's layers, the lowest first: each one needs those below it.

    Raises InvalidImage or UnsafePath if a layer is not a valid one, LayerUnavailable if it does not match its image, and
    the errors of `LayerFetcher.fetch`.
    """
    chain = fetcher.store.snapshots.changesets(snapshot)
    for number in reversed(range(len(chain))):
        await ensure_toc(fetcher, chain, number)


async def ensure_steps_are_read(fetcher: LayerFetcher, snapshot: int | None) -> None:
    """Read the layers of a snapshot if one of them is that of a step that another machine made, and was not read yet.

    An image with such a layer can leave this machine as an archive only if the layer is what the cache said of it. Raises
    what `ensure_tocs` raises.
    """
    store = fetcher.store
    unread = map(store.changesets.unread, store.snapshots.changesets(snapshot))
    if any(blob is not None and store.records.claims(str(blob.digest)) for blob in unread):
        await ensure_tocs(fetcher, snapshot)


async def ensure_toc(fetcher: LayerFetcher, chain: Sequence[str], number: int, *, want_tree: bool = False) -> None:
    """Make the table of contents of a layer, if it is missing. `chain`: the changesets of its snapshot, topmost first.

    The layers below it must have theirs. A layer that is elsewhere is fetched, and those above it at the same time. With
    `want_tree` the same pass makes the tree, if it can: `ensure_tree` still has to be asked.
    """
    store, pool, changeset = fetcher.store, fetcher.pool, chain[number]
    if store.changesets.unread(changeset) is None:
        return
    async with pool.locks(("toc", changeset)):
        unread = store.changesets.unread(changeset)
        if unread is None:
            return
        from pybuild.builder.files.layer_contents import blob_place
        from pybuild.builder.steps.fetched_layer import fetch_layer_once, read_layer_once

        below = [store.changesets.toc_path(lower) for lower in chain[number + 1 :]]
        files: LayerFiles | None = None

        async def read_meanwhile(download: FetchBlob, on_progress: OnProgress) -> FetchedBlob:
            nonlocal files
            fetched, files = await fetch_layer_once(
                store, pool, download, unread.diff_id, below, want_tree=want_tree, on_progress=on_progress
            )
            return fetched

        wanted = [store.changesets.unread(each) for each in chain[: number + 1]]
        try:
            await fetcher.fetch([blob for blob in wanted if blob is not None], ways={unread.digest: read_meanwhile})
            if files is None:
                place = blob_place(store, unread)
                files = await read_layer_once(store, pool, place, unread.diff_id, below, want_tree=want_tree)
        except (DigestMismatch, InvalidImage) as error:
            if isinstance(error, DigestMismatch) or store.records.claims(str(unread.digest)):
                raise LayerUnavailable(str(error), str(unread.digest), lost=True, hint=error.hint) from error
            raise
        except BuildError as error:
            if want_tree:
                _check_own(store, changeset, error)
            raise
        if not _know_read(store, changeset, files.toc):
            raise ClaimedTableWrong(
                f"layer {unread.digest} does not hold what a cache says it holds", hint="build the image again"
            )
        if files.tree is not None:
            store.changesets.adopt_tree(changeset, pool.id_map.name, files.tree)


def _know_read(store: Store, changeset: str, toc: str) -> bool:
    """Mark a layer as read. False: it does not hold what was said of it, and the records above it have been removed."""
    from pybuild.store.formats.toc import Toc
    from pybuild.store.layers.claimed_table import claimed_digest

    changesets = store.changesets
    said = changesets.claimed_table(changeset)
    wrong = bool(said) and said != claimed_digest(Toc.open(toc))
    if store.obstacle is not None:
        changesets.mark_read(changeset, toc)
        return not wrong
    with store.metadata.transaction():
        if not said and (
            said := changesets.claimed_table(changeset)
        ):  # another build places files by it since a moment
            wrong = said != claimed_digest(Toc.open(toc))
        changesets.mark_read(changeset, toc)
        if wrong:
            changesets.belie_table(changeset)
            store.records.strike_above(changeset)
    return not wrong


async def ensure_content(fetcher: LayerFetcher, layer: LayerPlace) -> LayerPlace:
    """The layer with a tree or a blob. Its blob is fetched if it has neither. Raises what `LayerFetcher.fetch` raises."""
    if layer.tree is not None or layer.blob is not None:
        return layer
    absent = fetcher.store.changesets.absent_blob(layer.changeset)
    if absent is None:
        return layer
    await fetcher.fetch([absent])
    from pybuild.builder.files.layer_contents import layer_place

    return layer_place(fetcher.store, layer.changeset, fetcher.pool.tree_map)


async def ensure_trees(store: Store, pool: Pool, layers: Sequence[LayerPlace]) -> tuple[LayerPlace, ...]:
    """The same layers, each with a tree. Raises SandboxError if there are too many to mount, StoreError."""
    if len(layers) > MAX_LOWERS:
        raise SandboxError(
            f"{len(layers)} layers are more than the {MAX_LOWERS} that one overlay can hold",
            hint="join RUN steps with && or start a new stage with COPY --from",
        )
    return tuple(await gather(ensure_tree(store, pool, layer) for layer in layers))


async def ensure_tree(store: Store, pool: Pool, layer: LayerPlace) -> LayerPlace:
    """The layer with its tree. A missing tree is made from the layer's blob.

    The blob must be in the store: see `ensure_content`.
    """
    if layer.tree is not None:
        return layer
    async with pool.locks(("tree", layer.changeset)):
        name = store.changesets.tree_name(layer.changeset, pool.id_map.name)
        if name is None:
            from pybuild.builder.jobs.layer import MakeTree

            assert layer.blob is not None, layer.changeset
            directory = store.ingest.new_path()
            try:
                await pool.job(MakeTree(layer.toc, layer.blob, directory))
            except (BuildError, StoreError) as error:
                _check_own(store, layer.changeset, error)
                raise
            name = store.changesets.adopt_tree(layer.changeset, pool.id_map.name, directory)
    return replace(layer, tree=store.changesets.tree_path(name))


def _check_own(store: Store, changeset: str, error: PybuildError) -> None:
    """Raise LayerUnavailable for a layer that cannot be unpacked here, if another machine made it: the step can be made here.

    An attribute that this kernel or file system does not take is such a reason.
    """
    claimed = store.changesets.claimed(changeset, None)
    if claimed is None or isinstance(error, CannotWrite | LayerUnavailable | NotCached | PrivilegeError):
        return
    digest = str(claimed.digest)
    if store.records.claims(digest):
        raise LayerUnavailable(f"layer {digest} cannot be unpacked here: {error}", digest, hint=error.hint) from error


async def ensure_layer(
    fetcher: LayerFetcher, chain: Sequence[str], number: int, clamp: int | None, compression: Compression
) -> LayerBlob:
    """The layer of a changeset as an image gets it. `chain`: the changesets of its snapshot, topmost first.

    A layer that comes from another machine is taken as it is, wherever it lies, unless its times would have to be bounded.
    All others are made by `ensure_tar`.
    """
    store, changeset = fetcher.store, chain[number]
    claimed = store.changesets.claimed(changeset, clamp)
    if claimed is not None:
        return claimed
    if (absent := store.changesets.absent_blob(changeset)) is not None:
        for lower in reversed(range(number, len(chain))):
            await ensure_toc(fetcher, chain, lower)
        await fetcher.fetch([absent])
    return await ensure_tar(store, fetcher.pool, changeset, clamp, compression)


async def ensure_tar(
    store: Store, pool: Pool, changeset: str, clamp: int | None, compression: Compression
) -> LayerBlob:
    """The changeset as a layer blob in this compression. `clamp` bounds the times of its files (None: no bound)."""
    async with pool.locks(("tar", changeset)):
        diff_id = store.changesets.diff_id(changeset, clamp)
        if diff_id is None:
            from pybuild.builder.files.layer_contents import layer_place
            from pybuild.builder.jobs.job import Output
            from pybuild.builder.jobs.layer import WriteTar

            output = Output(store.ingest.new_path(), store.ingest.new_path(), compression.value, clamp)
            written = await pool.job(
                WriteTar(layer_place(store, changeset, pool.tree_map), store.ingest.new_path(), output)
            )
            blob = _blob(written, compression)
            with store.metadata.transaction():
                store.blobs.adopt(output.blob, blob.digest, blob.size)
                store.changesets.add_tar(changeset, clamp, blob)
            return blob
    return await ensure_compression(store, pool, diff_id, compression)


async def ensure_compression(store: Store, pool: Pool, diff_id: Digest, compression: Compression) -> LayerBlob:
    """A blob of this layer in this compression; if the store has none, it is made from a blob in another one."""
    async with pool.locks(("blob", diff_id)):
        blobs = store.changesets.blobs_of(diff_id)
        for blob in blobs:
            if blob.compression is compression:
                return blob
        from pybuild.builder.files.layer_contents import blob_place
        from pybuild.builder.jobs.layer import Recompress

        if not blobs:
            raise NotFound(f"layer {diff_id} has no blob", hint="pybuild fsck --repair mends the store")
        source = blobs[0]
        output = store.ingest.new_path()
        written = await pool.job(Recompress(blob_place(store, source), output, compression.value))
        blob = _blob(written, compression)
        with store.metadata.transaction():
            store.blobs.adopt(output, blob.digest, blob.size)
            store.changesets.add_blob(blob)
        return blob


def _blob(written: Written, compression: Compression) -> LayerBlob:
    return LayerBlob(Digest.parse(written.diff_id), Digest.parse(written.digest), written.size, compression)
