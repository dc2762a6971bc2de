"""The tables of contents that a cache gets: with them another machine can place files on layers that it does not have.

The tables of each base image are a pack of their own, which is the same wherever it is made. Those of the steps are
another one. What a cache that was read has already is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builder.jobs.job import Output
from pybuild.builder.jobs.tables import PackedFile, PackTables
from pybuild.store.formats.cache_index import CachedLayer, CachedTable, table_name
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pybuild.builder.session import Session


@frozen
class StackedLayer:
    """A layer as part of a stack: its changeset, the chain ID with it, and that of the layers below."""

    changeset: str
    chain: Digest
    below: Digest | None


@frozen
class PackedTables:
    """Tables of a cache, and the files of their packs by digest."""

    tables: tuple[CachedTable, ...]
    paths: dict[Digest, str]


def pack_tables(
    session: Session, stacks: Iterable[Sequence[StackedLayer]], known: Callable[[Digest], bool]
) -> PackedTables:
    """Make a pack of each stack of layers, without those that are `known` or that the store has no table of.

    Raises BuildError, StoreError.
    """
    store, pool = session.store, session.pool
    tables: list[CachedTable] = []
    paths: dict[Digest, str] = {}
    seen: set[Digest] = set()
    for stack in stacks:
        new = [
            layer
            for layer in {layer.chain: layer for layer in stack}.values()
            if layer.chain not in seen and not known(layer.chain) and store.changesets.unread(layer.changeset) is None
        ]
        seen.update(layer.chain for layer in new)
        if not new:
            continue
        output = Output(store.ingest.new_path(), store.ingest.new_path(), Compression.ZSTD.value, None)
        files = tuple(
            PackedFile(table_name(layer.chain).decode(), store.changesets.toc_path(layer.changeset)) for layer in new
        )
        written = pool.run(PackTables(files, output))
        digest = Digest.parse(written.digest)
        pack = CachedLayer(Digest.parse(written.diff_id), digest, written.size, Compression.ZSTD)
        paths[digest] = output.blob
        tables += [CachedTable(layer.chain, layer.below, pack) for layer in new]
    return PackedTables(tuple(tables), paths)
