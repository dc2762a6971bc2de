"""Caches for other machines: records with layers, and what a write to a place needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pybuild.builder.cache_export.write import write_cache
from pybuild.builder.cache_places import CacheExport, LocalCache, RegistryCache
from pybuild.builder.caches.read import read_cache
from pybuild.builder.events import CacheExported, Note
from pybuild.builder.workers.pool import Pool
from pybuild.store.formats.cache_index import CachedLayer, CachedStep, CachedTable, CacheIndex, CacheRecord
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.reference import Reference
from pybuild.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from pybuild.builder.cache_export.gone import WrittenCache
    from pybuild.builder.caches.find import ReadCache
    from pybuild.builder.events import Event

LINUX = Platform("linux", "amd64")
BASE = Digest.of(b"base")


@dataclass
class CacheMachine:
    """A machine that reads and writes caches. `blobs` are the layers that its store has."""

    store: Store
    pool: Pool
    directory: Path
    blobs: dict[Digest, Path] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def layer(self, content: bytes) -> CachedLayer:
        """A layer that this machine has."""
        digest = Digest.of(content)
        path = self.directory / digest.hex
        path.write_bytes(content)
        self.blobs[digest] = path
        return CachedLayer(Digest.of(b"tar" + content), digest, len(content), Compression.GZIP)

    def record(self, name: str, below: CacheRecord | None = None, *, used: int = 5, size: int = 100) -> CacheRecord:
        """A record of a step of its own, on the base or on another record."""
        key = Digest.of(name.encode()).hex
        step = CachedStep("app", 2, f"RUN {name}", '{"step": "RUN"}')
        chain = BASE if below is None else below.chain
        layer = self.layer(name.encode().ljust(size, b"."))
        return CacheRecord({key: "definition"}, key, 3, used, step, layer, chain, below is None)

    def write(
        self,
        place: RegistryCache | LocalCache,
        *records: CacheRecord,
        most: int = 1000,
        size: int | None = None,
        tables: tuple[CachedTable, ...] = (),
    ) -> WrittenCache:
        return write_cache(
            CacheExport(place, max_records=most, max_size=size), CacheIndex(records, tables), self._path,
            self.store, self.pool, self.events.append, tls_verify=True, platform=LINUX,
        )  # fmt: skip

    def read(self, place: RegistryCache | LocalCache) -> ReadCache | None:
        return read_cache(self.store, self.pool, self.events.append, place, tls_verify=True, platform=LINUX)

    def notes(self) -> list[str]:
        """The notes since the last call."""
        found = [event.text for event in self.events if isinstance(event, Note)]
        self.events.clear()
        return found

    def reported(self) -> CacheExported:
        """The last event about a written cache."""
        return [event for event in self.events if isinstance(event, CacheExported)][-1]

    def _path(self, digest: Digest) -> str | None:
        found = self.blobs.get(digest)
        return None if found is None else str(found)


def in_registry(host: str, name: str = "team/cache:main") -> RegistryCache:
    return RegistryCache(Reference.parse(f"{host}/{name}"))


def cache_machine(directory: Path) -> CacheMachine:
    """A machine of its own; the caller closes its store and its pool."""
    directory.mkdir()
    (directory / "blobs").mkdir()
    return CacheMachine(Store(str(directory / "store")), Pool(), directory / "blobs")
