"""Restoring cache mounts from caches of other machines, when a RUN needs one that the store does not have.

A layer is read as any layer is: its bytes have the digests that the cache says, no path leaves the directory, and devices are
empty files. Whatever goes wrong, the step gets the cache mount that it would get without the cache, and a note says why.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, assert_never

from pybuild.builder.cache_places import LocalCache, RegistryCache
from pybuild.builder.events import Note, Transfer
from pybuild.builder.files.layer_contents import BlobPlace
from pybuild.builder.jobs.cache_mount import UnpackCacheMount
from pybuild.builder.jobs.one_pass import ReadLayer
from pybuild.builder.steps.mount_sources import RestoredMount
from pybuild.builder.steps.removal import discard_meanwhile
from pybuild.store.formats.media_types import LAYER_TYPES
from pybuild.store.objects.cache_mounts import TravelState
from pybuild.store.system.disk_full import require_space
from pybuild.values.errors import PybuildError, reason_of
from pybuild.values.sizes import human_size

if TYPE_CHECKING:
    from pybuild.builder.plan.graph import PlannedCacheMount
    from pybuild.builder.session import Session
    from pybuild.store.formats.cache_index import CachedLayer, CachedMount


async def restore_mount(
    session: Session, place: RegistryCache | LocalCache, cached: CachedMount, mount: PlannedCacheMount
) -> RestoredMount | None:
    """A new directory with the files of a cache mount. None if that fails, and a note says why."""
    directory = session.store.ingest.new_path()
    try:
        restored = await _restored(session, place, cached, mount, directory)
    except (PybuildError, OSError) as error:
        text = reason_of(error)
        if isinstance(error, PybuildError) and error.hint:
            text = f"{text}; {error.hint}"
        session.observe(Note(f"the cache mount {mount.name} is not restored from {place}: {text}"))
        with suppress(PybuildError, OSError):
            await discard_meanwhile(session.store, session.pool, directory)
        return None
    size = human_size(cached.layer.size)
    session.observe(Note(f"the cache mount {mount.name} is restored from {place} ({size})"))
    return restored


async def _restored(
    session: Session,
    place: RegistryCache | LocalCache,
    cached: CachedMount,
    mount: PlannedCacheMount,
    directory: str,
) -> RestoredMount:
    layer, pool, ingest = cached.layer, session.pool, session.store.ingest
    require_space(session.store.root, layer.size, f"its layer of {human_size(layer.size)}")
    path, toc = ingest.new_path(), ingest.new_path()
    blob = BlobPlace(path, str(layer.digest), layer.size, layer.compression.value)
    try:
        await _fetch(session, place, layer, path, mount.name)
        await pool.job(ReadLayer(blob, str(layer.diff_id), (), toc))
        made = await pool.job(UnpackCacheMount(toc, blob, directory, mount.mode, mount.uid, mount.gid))
    finally:
        for scratch in (path, toc):
            with suppress(FileNotFoundError):
                os.unlink(scratch)
    saved = min(cached.saved, int(time.time()))  # a clock can be ahead: what is saved after this has to count as later
    travel = TravelState(cached.secret, made.owners_lost, made.state, saved, str(layer.diff_id))
    return RestoredMount(directory, travel)


async def _fetch(session: Session, place: RegistryCache | LocalCache, layer: CachedLayer, path: str, name: str) -> None:
    match place:
        case LocalCache(path=layout):
            from pybuild.store.importing.layout_blob import copy_blob

            copy_blob(layout, layer.digest, layer.size, path)
        case RegistryCache(name=reference):
            from pybuild.builder.jobs.registry import FetchBlob
            from pybuild.builder.sources.registry_access import registry_access

            access = registry_access(os.environ, session.store.ingest, tls_verify=session.options.tls_verify)
            kind = LAYER_TYPES[layer.compression]
            job = FetchBlob(access, str(reference), kind, str(layer.digest), layer.size, path)

            def report(done: int, _: int | None) -> None:
                session.observe(Transfer(f"cache mount {name}", done, layer.size))

            fetched = await session.pool.job_without_core(job, report)
            for text in fetched.notes:
                session.observe(Note(text))
        case _:
            assert_never(place)
