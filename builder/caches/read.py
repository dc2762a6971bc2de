"""Reading a cache of another machine for a build: its records, or a note that says why there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from pybuild.builder.caches.find import Hindrance, NoCache, ReadCache, cache_reader
from pybuild.builder.events import Note

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.builder.cache_places import LocalCache, RegistryCache
    from pybuild.builder.events import Event
    from pybuild.builder.workers.pool import Pool
    from pybuild.store.formats.platform import Platform
    from pybuild.store.store import Store


def read_cache(
    store: Store,
    pool: Pool,
    observe: Callable[[Event], None],
    place: RegistryCache | LocalCache,
    *,
    tls_verify: bool,
    platform: Platform,
) -> ReadCache | None:
    """The cache at a place, or None, and a Note says why. No layer moves.

    Nothing that is there, or is not, makes this raise an error.
    """
    found = cache_reader(store.ingest, pool, observe, tls_verify=tls_verify, platform=platform).read(place)
    if isinstance(found, NoCache):
        observe(Note(no_cache_text(place, found)))
        return None
    return found


def no_cache_text(place: RegistryCache | LocalCache, found: NoCache) -> str:
    """What to tell the user about a place without a cache."""
    reason = f"{found.error}; {found.error.hint}" if found.error.hint else str(found.error)
    match found.hindrance:
        case Hindrance.ABSENT:
            return f"no cache at {place} yet"
        case Hindrance.FOREIGN:
            return f"{place} is not used as a cache: {reason}"
        case Hindrance.DAMAGED:
            return f"the cache {place} is damaged and not used: {reason}"
        case Hindrance.FAILED:
            return f"the cache {place} is not used: {reason}"
        case _:
            assert_never(found.hindrance)
