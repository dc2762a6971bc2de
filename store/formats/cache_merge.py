"""Putting the indexes of two caches together, and dropping what a budget does not allow: what was used longest ago."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.store.formats.cache_index import CacheIndex

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pybuild.store.formats.cache_index import CachedLayer, CachedMount, CachedTable, CacheRecord
    from pybuild.store.formats.digest import Digest

MOST_MOUNTS = 100  # cache mounts of a cache
_DAY = 86_400  # seconds


def merged(old: CacheIndex, new: CacheIndex, *, most: int, most_bytes: int | None = None) -> CacheIndex:
    """The records of both, at most `most` of them, and the cache mounts of both, with layers of at most `most_bytes` (None: any).

    Those that were used last are kept; of what was used within a day the records come first. A record is kept only
    together with those that it stands on, and a table with the records that need it. Records of the same step with the
    same result become one, which keeps the time and the blob of the old one. A cache mount of `new` replaces the one with
    its key.
    """
    together: dict[object, CacheRecord] = {}
    for record in (*old.records, *new.records):
        chain = record.chain
        name = (record.canonical, str(chain), record.clamp)
        before = together.get(name)
        if before is not None:
            keys = {**before.keys, **record.keys}
            record = replace(before, keys=keys, used=_used(before.used, record.used))
        together[name] = record
    mounts: dict[str, CachedMount] = {}
    for mount in (*old.mounts, *new.mounts):
        known = mounts.get(mount.key)
        if known is not None and known.layer == mount.layer:
            mount = replace(mount, used=_used(known.used, mount.used))
        mounts[mount.key] = mount
    chosen = _Budget(list(together.values()), list(mounts.values()), most, most_bytes).chosen()
    return replace(chosen, tables=_needed_tables((*old.tables, *new.tables), chosen.records))


def not_after(index: CacheIndex, now: int) -> CacheIndex:
    """The same index, in which nothing was used or saved later than `now` (seconds since the epoch).

    Otherwise a record that claims a later time would outlast all others, and a cache mount those that are saved after it.
    """
    return replace(
        index,
        records=tuple(replace(record, used=min(record.used, now)) for record in index.records),
        mounts=tuple(replace(mount, used=min(mount.used, now), saved=min(mount.saved, now)) for mount in index.mounts),
    )


def _used(before: int, now: int) -> int:
    """When something was used last. Within a day the time stays, so that the job of every commit does not write the same
    index anew.
    """
    return now if now - before >= _DAY else before


class _Budget:
    """Chooses what was used last, as far as the budget allows."""

    def __init__(
        self, records: Sequence[CacheRecord], mounts: Sequence[CachedMount], most: int, most_bytes: int | None
    ) -> None:
        self._records = records
        self._mounts = mounts
        self._most = most
        self._most_bytes = most_bytes
        self._blobs: dict[Digest, int] = {}  # digest -> size, of what was chosen

    def chosen(self) -> CacheIndex:
        """What fits, in the order in which it was given."""
        records, mounts = self._records, self._mounts
        # Of one build the last steps come first: they bring those that they stand on.
        order = sorted(range(len(records)), key=lambda number: (-records[number].used, -number))
        makers: dict[Digest, int] = {}  # chain ID -> the record used last of those that made these layers
        for number in order:
            chain = records[number].chain
            if chain is not None:
                makers.setdefault(chain, number)
        kept: set[int] = set()
        kept_mounts: set[int] = set()
        waiting = sorted(range(len(mounts)), key=lambda number: (mounts[number].used, number))  # the next one last
        for number in order:
            while waiting and mounts[waiting[-1]].used - records[number].used >= _DAY:
                self._choose_mount(waiting.pop(), kept_mounts)
            stack = _stack(records, makers, number)
            if stack is None:
                continue
            wanted = [one for one in stack if one not in kept]
            layers = [layer for one in wanted if (layer := records[one].layer) is not None]
            if len(kept) + len(wanted) <= self._most and self._add(layers):
                kept.update(wanted)
        while waiting:
            self._choose_mount(waiting.pop(), kept_mounts)
        return CacheIndex(
            tuple(record for number, record in enumerate(records) if number in kept),
            mounts=tuple(mount for number, mount in enumerate(mounts) if number in kept_mounts),
        )

    def _choose_mount(self, number: int, kept: set[int]) -> None:
        if len(kept) < MOST_MOUNTS and self._add([self._mounts[number].layer]):
            kept.add(number)

    def _add(self, layers: Sequence[CachedLayer]) -> bool:
        """Take layers if all of them fit; return whether they do."""
        together = {**self._blobs, **{layer.digest: layer.size for layer in layers}}
        fits = self._most_bytes is None or sum(together.values()) <= self._most_bytes
        if fits:
            self._blobs = together
        return fits


def _needed_tables(tables: Iterable[CachedTable], records: Sequence[CacheRecord]) -> tuple[CachedTable, ...]:
    """The first table of each stack of layers that a record has or stands on, and those of the layers below."""
    known: dict[Digest, CachedTable] = {}
    for table in tables:
        known.setdefault(table.chain, table)
    needed: set[Digest] = set()
    pending = [chain for record in records for chain in (record.chain, record.below) if chain is not None]
    while pending:
        chain = pending.pop()
        if chain in known and chain not in needed:
            needed.add(chain)
            below = known[chain].below
            pending += [] if below is None else [below]
    return tuple(table for table in known.values() if table.chain in needed)


def _stack(records: Sequence[CacheRecord], makers: Mapping[Digest, int], number: int) -> list[int] | None:
    """A record and those that it stands on, down to a base; None if one of them is missing."""
    stack = [number]
    while True:
        record = records[stack[-1]]
        if record.layer is None or record.on_base or record.below is None:
            return stack
        maker = makers.get(record.below)
        if maker is None or maker in stack:
            return None
        stack.append(maker)
