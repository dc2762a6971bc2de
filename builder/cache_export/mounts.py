"""Saving cache mounts into caches for other machines, at the end of a build.

A cache mount is packed if the place has none of its key, or if its directory is not as it was when it was last restored or
saved. If another machine has saved one later, and nothing has changed here, that one stays. While it is packed, it is locked
as by a step that shares it.
"""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from pybuild.builder.cache_places import ALL_MOUNTS
from pybuild.builder.errors import BuildError
from pybuild.builder.events import Note
from pybuild.builder.jobs.cache_mount import PackCacheMount
from pybuild.builder.jobs.job import Output
from pybuild.builder.plan.graph import PlannedCacheMount, RunStep
from pybuild.builder.plan.mounts import cache_mount_name
from pybuild.builder.steps.mount_keys import mount_keys
from pybuild.store.formats.cache_index import CachedLayer, CachedMount
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.values import frozen
from pybuild.values.errors import PybuildError, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Set

    from pybuild.builder.cache_places import CacheExport
    from pybuild.builder.jobs.cache_mount import PackedMount
    from pybuild.builder.plan.graph import Plan
    from pybuild.builder.session import Session
    from pybuild.builder.steps.mount_keys import MountKeys
    from pybuild.store.objects.cache_mounts import TravelState

ToAdd: TypeAlias = Callable[[Sequence[CachedMount]], tuple[CachedMount, ...]]


@frozen
class _Saved:
    """What a directory is saved as: to be remembered when a cache has it."""

    id: str
    state: str
    at: int
    diff_id: str


class MountSaver:
    """Saves the cache mounts that RUNs of one build mount, and not only read. `seeded`: name and keys of those with `from=`
    that a step of this build has mounted: only then it is known what they began with.
    """

    def __init__(self, session: Session, plan: Plan, seeded: Iterable[tuple[str, MountKeys]]) -> None:
        self._session = session
        self._mounts = session.store.cache_mounts
        self._plan = plan
        self._seeded = seeded
        self._packed: dict[tuple[str, Compression], PackedMount] = {}
        self._paths: dict[Digest, str] = {}
        self._saved: dict[str, _Saved] = {}  # by the key in caches
        self._now = int(time.time())

    def to_add(self, export: CacheExport) -> ToAdd:
        """A function that `write_cache` asks for the cache mounts to add. Raises BuildError if the user wants errors."""
        return lambda old: self._to_add(export, old) if export.mounts else ()

    def path_of(self, digest: Digest) -> str | None:
        """The file of a layer of a cache mount."""
        return self._paths.get(digest)

    def remember(self, written: Iterable[CachedMount]) -> None:
        """Remember which cache mounts a cache has now. Raises StoreError."""
        for mount in written:
            saved = self._saved.get(mount.key)
            if saved is not None and saved.diff_id == str(mount.layer.diff_id):
                self._mounts.set_saved(saved.id, saved.state, saved.at, saved.diff_id)

    def close(self) -> None:
        """Remove the files of the layers."""
        for path in self._paths.values():
            with suppress(FileNotFoundError):
                os.unlink(path)

    def _to_add(self, export: CacheExport, old: Sequence[CachedMount]) -> tuple[CachedMount, ...]:
        wanted = self._wanted_names(export)
        there = {mount.key: mount for mount in old}
        # What this build would use, if it had to, counts as used.
        found = {mount.key: replace(mount, used=self._now) for mount in old if mount.name in wanted}
        if self._session.store.obstacle is None:
            for name, keys in self._written_by_runs():
                if name not in wanted:
                    continue
                try:
                    cached = self._cached(export, name, keys, there.get(keys.anywhere))
                except (PybuildError, OSError) as error:
                    text = reason_of(error)
                    if not export.ignore_error:
                        hint = error.hint if isinstance(error, PybuildError) else None
                        raise BuildError(f"the cache mount {name} cannot be saved: {text}", hint=hint) from error
                    self._note(f"the cache mount {name} is not saved: {text}")
                    continue
                if cached is not None:
                    found[keys.anywhere] = cached
        return tuple(found.values())

    def _wanted_names(self, export: CacheExport) -> Set[str]:
        names = {mount.name for mount in self._planned()}
        if export.mounts == (ALL_MOUNTS,):
            return names
        args = self._session.options.build_args
        wanted = {
            id: cache_mount_name(posixpath.normpath(id) if id.startswith("/") else id, args) for id in export.mounts
        }
        for id, name in wanted.items():
            if name not in names:
                self._note(f"mounts={id}: no RUN of this build has a cache mount with this id")
        return names & set(wanted.values())

    def _planned(self) -> list[PlannedCacheMount]:
        steps = [node.step for node in self._plan.nodes if isinstance(node.step, RunStep)]
        return [mount for step in steps for mount in step.mounts if isinstance(mount, PlannedCacheMount)]

    def _written_by_runs(self) -> list[tuple[str, MountKeys]]:
        """Name and keys of the cache mounts that steps can write to, each once."""
        plain = [mount for mount in self._planned() if mount.source is None and not mount.read_only]
        if not plain and not self._seeded:
            return []
        id_map = self._session.pool.id_map.name
        return list(dict.fromkeys([*((mount.name, mount_keys(mount, "", id_map)) for mount in plain), *self._seeded]))

    def _cached(self, export: CacheExport, name: str, keys: MountKeys, old: CachedMount | None) -> CachedMount | None:
        """What the cache gets of one cache mount; None if that is what it has. Raises BuildError, StoreError, OSError."""
        withheld = ""
        for identity in self._mounts.of_key(keys.here):
            state = self._mounts.travel_state(identity)
            if state.owners_lost:
                withheld = "some of its files belong to users that do not exist here"
            elif state.secret and export.mounts == (ALL_MOUNTS,):
                withheld = "a step with a secret could write to it; mounts=ID with its id saves it all the same"
            else:
                return self._pack(export, name, keys, old, identity, state)
        if withheld:
            self._note(f"the cache mount {name} is not saved: {withheld}")
        return None

    def _pack(
        self,
        export: CacheExport,
        name: str,
        keys: MountKeys,
        old: CachedMount | None,
        identity: str,
        state: TravelState,
    ) -> CachedMount | None:
        # The cache has what is here, as far as it is known, or something that another machine saved later.
        has_it = old is not None and (str(old.layer.diff_id) == state.layer or old.saved > state.saved)
        compression = export.compression or Compression.ZSTD
        packed = self._packed.get((identity, compression))
        if packed is None or not packed.diff_id:
            found = self._run(identity, state.state if has_it else "", compression)
            if found is None:
                self._note(f"the cache mount {name} is not saved: another build uses it")
                return None
            packed = self._packed[identity, compression] = found
        if not packed.diff_id:
            return None
        now = self._mounts.travel_state(identity)
        if now.secret and not state.secret and export.mounts == (ALL_MOUNTS,):
            self._note(f"the cache mount {name} is not saved: another build uses it")
            return None
        at = state.saved if state.saved and packed.state == state.state else self._now
        if old is not None and str(old.layer.diff_id) == packed.diff_id:
            cached = replace(old, used=self._now, secret=old.secret or now.secret)
        else:
            layer = CachedLayer(Digest.parse(packed.diff_id), Digest.parse(packed.digest), packed.size, compression)
            cached = CachedMount(keys.anywhere, name, layer, at, self._now, now.secret)
        self._saved[keys.anywhere] = _Saved(identity, packed.state, cached.saved, packed.diff_id)
        return cached

    def _run(self, identity: str, known: str, compression: Compression) -> PackedMount | None:
        """Pack a directory, unless it has the fingerprint `known`. None if a process writes to it."""
        opened = self._mounts.open_to_read(identity)
        if opened is None:
            return None
        ingest = self._session.store.ingest
        output = Output(ingest.new_path(), ingest.new_path(), compression.value, None)
        try:
            with opened:
                packed = self._session.pool.run(PackCacheMount(opened.path, known, output))
        finally:
            with suppress(FileNotFoundError):
                os.unlink(output.toc)
        if packed.diff_id:
            self._paths[Digest.parse(packed.digest)] = output.blob
        return None if packed.changed else packed

    def _note(self, text: str) -> None:
        self._session.observe(Note(text))
