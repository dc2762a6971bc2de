"""The caches of other machines that one build uses: read when the store alone does not serve everything."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from pybuild.builder.caches.offers import NO_OFFERS, Offers
from pybuild.builder.events import Note
from pybuild.store.formats.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.builder.cache_places import LocalCache, RegistryCache
    from pybuild.builder.caches.claimed_tables import ClaimedTables
    from pybuild.builder.errors import LayerUnavailable
    from pybuild.builder.plan.graph import PlannedCacheMount
    from pybuild.builder.session import Session
    from pybuild.builder.steps.mount_keys import MountKeys
    from pybuild.builder.steps.mount_sources import RestoredMount
    from pybuild.store.formats.cache_index import CachedTable, CacheIndex


_MOST_LOST = 10  # layers that a cache names, and that nobody has
_MOST_FAILURES = 3  # layers that cannot be fetched at the moment: each can have cost a minute


class Caches:
    """The caches of --cache-from, in their order. A cache that cannot be read is a note, and the build goes on.

    Each layer that cannot be had costs another pass over the plan. So a cache that has many of them is not used any more.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._indexes: list[tuple[RegistryCache | LocalCache, CacheIndex]] | None = None
        self._tables: list[tuple[RegistryCache | LocalCache, dict[Digest, CachedTable]]] = []  # by chain ID
        self.seeded_mounts: set[tuple[str, MountKeys]] = set()  # see `MountRestorer.note_seeded`
        self._unusable: set[str] = set()  # digests of layers that cannot be had, or are not what was said of them
        self._failures: dict[RegistryCache | LocalCache, int] = {}  # of layers that were given up, not for ever
        self._losses: dict[RegistryCache | LocalCache, int] = {}  # of layers that were lost
        self._lost: set[Digest] = set()  # those of them that nobody will have later: a cache can forget them

    @cached_property
    def claimed_tables(self) -> ClaimedTables | None:
        """What the caches say of layers that are elsewhere; None if there are no caches."""
        if not self._session.options.cache_from:
            return None
        from pybuild.builder.caches.claimed_tables import ClaimedTables

        return ClaimedTables(self._session, self.table)

    def give_up_tables(self, reason: str) -> None:
        """Fetch layers from now on to see what they hold."""
        if self.claimed_tables is not None:
            self.claimed_tables.give_up()
        self._session.observe(Note(f"steps that stand on it are made again: {reason}"))

    def offers(self, know: Callable[[str, CacheIndex], None]) -> Offers:
        """What the caches offer. They are read once; `know` gets each with its name."""
        if not self._session.options.cache_from or self._session.store.obstacle is not None:
            return NO_OFFERS
        if self._indexes is None:
            self._indexes = self._read()
            for place, index in self._indexes:
                self._tables.append((place, {table.chain: table for table in index.tables}))
                know(str(place), index)
        return Offers(self._indexes, self._unusable)

    def table(self, chain: Digest) -> tuple[RegistryCache | LocalCache, CachedTable] | None:
        """Where the table of contents of a layer is, and the cache that has it. None: no cache that was read has it."""
        return next(((place, tables[chain]) for place, tables in self._tables if chain in tables), None)

    def has_table(self, place: RegistryCache | LocalCache, chain: Digest) -> bool:
        """Whether the cache at a place was read and has the table of contents of a layer."""
        return any(chain in tables for known, tables in self._tables if known == place)

    async def restore(self, keys: MountKeys, mount: PlannedCacheMount) -> RestoredMount | None:
        """A new directory with the files that the first cache with this mount has; None if there is none, or it fails."""
        for place, index in self._indexes or ():
            for cached in index.mounts:
                if cached.key == keys.anywhere:
                    from pybuild.builder.caches.mounts import restore_mount  # a local import: most builds restore none

                    return await restore_mount(self._session, place, cached, mount)
        return None

    def note_seeded(self, name: str, keys: MountKeys) -> None:
        """As `MountRestorer` says."""
        self.seeded_mounts.add((name, keys))

    @property
    def lost(self) -> frozenset[Digest]:
        """The layers that were given up for ever: their places have them no more, or have something else."""
        return frozenset(self._lost)

    def give_up(self, error: LayerUnavailable) -> bool:
        """Do without the records whose layer is the blob that the error is about, in the caches and in the store.

        Returns False if no record came from elsewhere with this layer: something else needs it.
        """
        struck = self._session.store.records.strike(error.digest)
        if struck:
            self._unusable.add(error.digest)
            if error.lost:
                self._lost.add(Digest.parse(error.digest))
            self._session.observe(Note(f"a cached step is not used, and is made again: {error}"))
            self._count(error)
        return bool(struck)

    def _count(self, error: LayerUnavailable) -> None:
        """Give up the caches that name this layer, if they have named too many that cannot be had."""
        counts, most = (self._losses, _MOST_LOST) if error.lost else (self._failures, _MOST_FAILURES)
        for place, index in self._indexes or []:
            if error.digest in {str(layer.digest) for layer in index.layers}:
                counts[place] = counts.get(place, 0) + 1
        useless = [place for place, _ in self._indexes or [] if counts.get(place, 0) >= most]
        for place in useless:
            counts[place] = 0
            self._session.observe(Note(f"the cache {place} is not used any more: {most} of its layers cannot be had"))
        self._indexes = [one for one in self._indexes or [] if one[0] not in useless]

    def _read(self) -> list[tuple[RegistryCache | LocalCache, CacheIndex]]:
        # A local import: a build that the store serves whole reads no cache.
        from pybuild.builder.caches.read import read_cache

        session, options = self._session, self._session.options
        found = []
        for one in options.cache_from:
            read: list[Digest] = []
            for platform in options.all_platforms:  # an inline cache of an index is in the image of each platform
                cache = read_cache(
                    session.store, session.pool, session.observe, one.place,
                    tls_verify=options.tls_verify, platform=platform,
                )  # fmt: skip
                if cache is None or cache.digest in read:
                    break  # as one platform, so the others
                read.append(cache.digest)
                found.append((one.place, cache.index))
        return found
