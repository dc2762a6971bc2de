"""Writing a cache for other machines: the records of this build and those that the place has already, within a budget.

Cache mounts come in when the old cache was read: whether one is saved depends on what the place has of it.

Only a cache of pybuild is ever replaced. The name changes last, so a write that ends early leaves the old cache. Of two
writers at once the last one wins; it may lose records of the other one.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.builder.cache_export.directory import DirectoryExport
from pybuild.builder.cache_export.gone import LayersGone, WrittenCache, without
from pybuild.builder.cache_export.registry import RegistryExport
from pybuild.builder.cache_places import InlineCache, LocalCache, RegistryCache
from pybuild.builder.caches.find import Hindrance, NoCache, ReadCache, cache_reader
from pybuild.builder.errors import BuildError
from pybuild.builder.events import CacheExported, Note
from pybuild.builder.sources.layers import LayerFetcher
from pybuild.builder.sources.registry_access import registry_access
from pybuild.store.formats.cache_image import fitting_image
from pybuild.store.formats.cache_index import CacheIndex
from pybuild.store.formats.cache_merge import merged, not_after
from pybuild.store.system.disk_full import OUTPUT_HINT, no_space
from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from collections.abc import Set as AbstractSet

    from pybuild.builder.cache_places import CacheExport
    from pybuild.builder.events import Event
    from pybuild.builder.workers.pool import Pool
    from pybuild.store.formats.cache_index import CachedMount
    from pybuild.store.formats.digest import Digest
    from pybuild.store.formats.platform import Platform
    from pybuild.store.store import Store


def write_cache(
    export: CacheExport,
    index: CacheIndex,
    path_of: Callable[[Digest], str | None],
    store: Store,
    pool: Pool,
    observe: Callable[[Event], None],
    *,
    tls_verify: bool,
    platform: Platform,
    mounts: Callable[[Sequence[CachedMount]], tuple[CachedMount, ...]] = lambda _: (),
    lost: AbstractSet[Digest] = frozenset(),
) -> WrittenCache:
    """Add the records of an index to the cache at a place, and report it. The place is not inline.

    `path_of` gives the file of a blob of the store; None: the layer is where `store.places` says. `mounts` gives the cache
    mounts to add; its argument are those that the place has. `lost` are blobs that the place does not have, or has with other
    bytes, whatever its cache says. Raises BuildError.
    """
    place = export.place
    assert not isinstance(place, InlineCache)
    try:
        old = _old_cache(place, store, pool, observe, tls_verify=tls_verify, platform=platform)
        before = CacheIndex() if old is None else without(old.index, lost) if lost else old.index
        before = not_after(before, int(time.time()))
        new = replace(index, mounts=mounts(before.mounts))
        together = merged(before, new, most=export.max_records, most_bytes=export.max_size)
        kept = {mount.key for mount in together.mounts}
        for mount in new.mounts:
            if mount.key not in kept:
                observe(
                    Note(f"the cache mount {mount.name} does not fit into the cache {place}, and is not saved there")
                )
        if old is None and not together.records and not together.mounts:
            return WrittenCache(None, 0, 0, 0, 0)
        writer: RegistryExport | DirectoryExport
        fetcher = LayerFetcher(store, pool, observe, tls_verify)
        if isinstance(place, LocalCache):
            writer = DirectoryExport(place, old, path_of, fetcher, lost)
        else:
            access = registry_access(os.environ, store.ingest, tls_verify=tls_verify)
            writer = RegistryExport(place.name, old, path_of, fetcher, access, lost)
        while True:
            image = fitting_image(together, platform)
            if left_out := len(together.records) - len(image.index.records):
                observe(
                    Note(f"the cache {place} would be too large: {_records(left_out)} not used lately are left out")
                )
            try:
                writer.write(image)
                break
            except LayersGone as gone:
                together = without(image.index, gone.digests)
                left_out = len(image.index.records) - len(together.records)
                mounts_left_out = len(image.index.mounts) - len(together.mounts)
                if left_out or mounts_left_out:  # else only tables of contents
                    names = [_records(left_out)] if left_out else []
                    names += (
                        ["1 cache mount" if mounts_left_out == 1 else f"{mounts_left_out} cache mounts"]
                        if mounts_left_out
                        else []
                    )
                    text = f"{' and '.join(names)} of the cache {place} left out: their layers cannot be had any more"
                    observe(Note(text))
    except PybuildError as error:
        raise BuildError(f"cannot write the cache {place}: {error}", hint=error.hint) from error
    except OSError as error:
        translated = no_space(error, str(place), hint=OUTPUT_HINT)
        text = str(translated) if translated is not error else f"{error.filename or ''}: {error.strerror}".lstrip(": ")
        raise BuildError(f"cannot write the cache {place}: {text}", hint=OUTPUT_HINT) from error
    layers = image.index.layers
    if isinstance(place, RegistryCache):
        ours = {layer.digest for layer in index.layers} & {layer.digest for layer in layers}
        store.places.add(sorted(ours, key=str), replace(place.name, tag=None), int(time.time()))
    written = WrittenCache(
        image.digest,
        len(image.index.records),
        len(layers),
        writer.sent,
        image.size - writer.sent,
        len(before.records),
        image.index.mounts,
        len(before.mounts),
    )
    observe(
        CacheExported(
            str(place), str(image.digest), written.records, written.layers, written.sent, written.spared,
            len(written.mounts),
        )
    )  # fmt: skip
    return written


def _old_cache(
    place: RegistryCache | LocalCache,
    store: Store,
    pool: Pool,
    observe: Callable[[Event], None],
    *,
    tls_verify: bool,
    platform: Platform,
) -> ReadCache | None:
    """The cache that is replaced; None if there is none. Raises BuildError, and what hinders reading it."""
    if isinstance(place, RegistryCache) and (place.name.digest is not None or place.name.tag is None):
        raise BuildError("the cache itself determines its digest", hint="give a tag")
    found = cache_reader(store.ingest, pool, observe, tls_verify=tls_verify, platform=platform).read(place)
    if isinstance(found, ReadCache):
        if not found.is_only_cache:
            raise BuildError(
                "an image has this name, and is not replaced by a cache", hint="give the cache a name of its own"
            )
        return found
    match found.hindrance:
        case Hindrance.ABSENT:
            return None
        case Hindrance.DAMAGED if found.only_cache:
            observe(Note(f"the cache {place} is damaged and made anew: {found.error}"))
            return None
        case Hindrance.FAILED:
            raise found.error
        case _:
            raise _refusal(found)


def _refusal(found: NoCache) -> BuildError:
    hint = found.error.hint or "give the cache a name of its own"
    return BuildError(f"what has this name is not replaced: {found.error}", hint=hint)


def _records(number: int) -> str:
    return "1 record" if number == 1 else f"{number} records"
