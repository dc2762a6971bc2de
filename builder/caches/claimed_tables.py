"""Tables of contents that caches have of layers that are elsewhere: files can be placed on them without a download."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeAlias, assert_never

from pybuild.builder.cache_places import LocalCache, RegistryCache
from pybuild.builder.events import Note
from pybuild.builder.files.layer_contents import BlobPlace
from pybuild.store.formats.cache_index import table_name
from pybuild.store.system.disk_full import require_space
from pybuild.values import frozen
from pybuild.values.errors import PybuildError
from pybuild.values.sizes import human_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pybuild.builder.session import Session
    from pybuild.store.formats.cache_index import CachedLayer, CachedTable
    from pybuild.store.formats.digest import Digest

    FindTable: TypeAlias = Callable[[Digest], tuple[RegistryCache | LocalCache, CachedTable] | None]


@frozen
class ClaimedTable:
    """What a cache says a layer holds: a file with a table of contents that was checked, and its digest."""

    path: str
    digest: str


class ClaimedTables:
    """The tables that the caches of one build have. A cache that gives none is a note, once, and nothing more is asked."""

    def __init__(self, session: Session, find: FindTable) -> None:
        """`find` tells where the table of a layer is, by the chain ID with it."""
        self._session = session
        self._find = find
        self._packs: dict[Digest, BlobPlace] = {}
        self._found: dict[Digest, ClaimedTable | None] = {}  # by chain ID
        self._given_up = False

    def give_up(self) -> None:
        """Use no table any more: one of them was wrong."""
        self._given_up = True

    def has(self, chain: Digest) -> bool:
        """Whether a cache that was read names a table for this layer."""
        return not self._given_up and self._find(chain) is not None

    async def of(self, chain: Digest, below: Sequence[str]) -> ClaimedTable | None:
        """What a layer holds; `below` are the tables of the layers under it, topmost first. None: it is not known."""
        async with self._session.pool.locks(("claimed table", chain)):
            if chain not in self._found and not self._given_up:
                try:
                    self._found[chain] = await self._read(chain, below)
                except (PybuildError, OSError) as error:
                    self._given_up = True
                    self._session.observe(Note(f"layers are fetched to see what they hold: {error}"))
        return None if self._given_up else self._found[chain]

    async def _read(self, chain: Digest, below: Sequence[str]) -> ClaimedTable | None:
        from pybuild.builder.jobs.tables import ReadTable

        known = self._find(chain)
        if known is None:
            return None
        place, table = known
        pack = await self._pack(place, table.pack)
        path = self._session.store.ingest.new_path()
        job = ReadTable(pack, table_name(chain).decode(), tuple(below), path)
        return ClaimedTable(path, (await self._session.pool.job(job)).digest)

    async def _pack(self, place: RegistryCache | LocalCache, layer: CachedLayer) -> BlobPlace:
        async with self._session.pool.locks(("pack", layer.digest)):
            if layer.digest not in self._packs:
                path = self._session.store.ingest.new_path()
                await self._fetch(place, layer, path)
                self._packs[layer.digest] = BlobPlace(path, str(layer.digest), layer.size, layer.compression.value)
            return self._packs[layer.digest]

    async def _fetch(self, place: RegistryCache | LocalCache, layer: CachedLayer, path: str) -> None:
        session = self._session
        require_space(session.store.root, layer.size, f"what a cache says of layers, {human_size(layer.size)}")
        match place:
            case LocalCache(path=directory):
                from pybuild.store.importing.layout_blob import copy_blob

                copy_blob(directory, layer.digest, layer.size, path)
            case RegistryCache(name=name):
                from pybuild.builder.jobs.registry import FetchBlob
                from pybuild.builder.sources.registry_access import registry_access
                from pybuild.store.formats.media_types import LAYER_TYPES

                access = registry_access(os.environ, session.store.ingest, tls_verify=session.options.tls_verify)
                kind = LAYER_TYPES[layer.compression]
                await session.pool.job_without_core(
                    FetchBlob(access, str(name), kind, str(layer.digest), layer.size, path)
                )
            case _:
                assert_never(place)
