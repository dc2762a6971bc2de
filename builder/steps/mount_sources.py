"""The sources of a RUN's mounts: trees of layers for bind mounts, and cache mounts, which the step holds while it runs.

A bind mount shows stored layers, through an overlay or as copies. So no other file of the machine can appear in it, wherever its
links lead. Files of a context are first copied into a layer, as a COPY would do.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Protocol

from pybuild.builder.errors import CopyError, PrivilegeError
from pybuild.builder.events import Note
from pybuild.builder.files.copy import CopyRequest
from pybuild.builder.jobs.copy import CopyFiles
from pybuild.builder.jobs.job import Output
from pybuild.builder.jobs.mount import AwaitCacheMount, MakeCacheMount
from pybuild.builder.plan.graph import FilesMount, PlannedCacheMount, literal_pattern
from pybuild.builder.steps.mount_keys import mount_keys
from pybuild.builder.steps.mounts import MountedPaths
from pybuild.builder.steps.step_root import SourceFiles
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.toc import Kind
from pybuild.store.layers.view import LinkLoop
from pybuild.store.objects.cache_mounts import OpenCacheMount, TravelState
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

    from pybuild.builder.files.layer_contents import LayerPlace
    from pybuild.builder.plan.graph import RunStep
    from pybuild.builder.sandbox.mounts import BoundFiles, CopiedFiles
    from pybuild.builder.session import Session
    from pybuild.builder.steps.layer_stack import LayerStacks
    from pybuild.builder.steps.mount_keys import MountKeys
    from pybuild.builder.steps.step_root import StepRoots
    from pybuild.store.objects.cache_mounts import CacheMountInUse


@frozen
class RestoredMount:
    """A directory for a cache mount, with files that another machine has saved."""

    directory: str
    travel: TravelState


class MountRestorer(Protocol):
    """Restores cache mounts from other machines."""

    async def restore(self, keys: MountKeys, mount: PlannedCacheMount) -> RestoredMount | None:
        """A new directory for a cache mount that the store does not have. None: it starts as without other machines."""
        ...

    def note_seeded(self, name: str, keys: MountKeys) -> None:
        """A step has taken a cache mount with `from=`, to write to it: the keys tell what it began with."""
        ...


class MountSources:
    """Finds and makes the sources of mounts, for one build."""

    def __init__(self, session: Session, stacks: LayerStacks, restorer: MountRestorer) -> None:
        self._restorer = restorer
        self._store = session.store
        self._pool = session.pool
        self._stacks = stacks
        self._observe = session.observe

    async def content(self, mount: FilesMount | PlannedCacheMount, sources: Sequence[int | None]) -> str:
        """The digest of the files that a mount reads. Raises CopyError if they are missing."""
        layers = await self._layers(mount, sources)
        self._resolve(mount, layers)
        return self._copy(mount, layers, Output("", "", Compression.UNCOMPRESSED.value, None)).content()

    async def find(
        self,
        step: RunStep,
        sources: Sequence[int | None],
        directory: str,
        roots: StepRoots,
        cache_mounts: ExitStack,
        *,
        secret: bool,
    ) -> MountedPaths:
        """Prepare everything that a step mounts, in its own `directory`. `secret`: whether it has a secret or an SSH agent.

        The cache mounts that the step takes are entered into `cache_mounts`, which releases them. Raises BuildError,
        StoreError.
        """
        files: dict[FilesMount, BoundFiles | CopiedFiles] = {}
        for number, mount in enumerate(step.mounts):
            if isinstance(mount, FilesMount):
                found = await self.files(mount, sources)
                files[mount] = await roots.bind(mount, found, f"{directory}/bound{number}")
        return MountedPaths(files, await self.caches(step, sources, cache_mounts, secret=secret))

    async def caches(
        self, step: RunStep, sources: Sequence[int | None], cache_mounts: ExitStack, *, secret: bool
    ) -> dict[PlannedCacheMount, str]:
        """The directories of the cache mounts of a step, as `find` takes them."""
        keyed_mounts: list[tuple[MountKeys, PlannedCacheMount]] = []
        for mount in step.mounts:
            if isinstance(mount, PlannedCacheMount):
                keyed_mounts.append((await self._keys(mount, sources), mount))
        taken: dict[str, OpenCacheMount] = {}  # by key: a cache that a step mounts twice is taken once
        caches: dict[PlannedCacheMount, str] = {}
        # All steps take them in one order: two steps that lock the same two caches must not wait for each other.
        for keys, mount in sorted(keyed_mounts, key=lambda pair: pair[0].here):
            if keys.here not in taken:
                taken[keys.here] = cache_mounts.enter_context(await self._take(keys, mount, sources))
            caches[mount] = taken[keys.here].path
            if not mount.read_only and mount.source is not None:
                self._restorer.note_seeded(mount.name, keys)
        # A step can also copy a secret from one cache mount to another.
        if secret or any(self._store.cache_mounts.travel_state(one.id).secret for one in taken.values()):
            for keys, mount in keyed_mounts:
                if not mount.read_only:
                    self._store.cache_mounts.mark_secret(taken[keys.here].id)
        return caches

    async def files(self, mount: FilesMount, sources: Sequence[int | None]) -> SourceFiles:
        """The layers that a bind mount shows a part of. Raises CopyError if it is not there."""
        layers = await self._layers(mount, sources)
        return SourceFiles(layers, *self._resolve(mount, layers))

    async def _take(self, keys: MountKeys, mount: PlannedCacheMount, sources: Sequence[int | None]) -> OpenCacheMount:
        """A free directory of this key, or a new one; waits for a locked one that other builds hold."""
        mounts = self._store.cache_mounts
        while True:
            found = mounts.find(keys.here, mount.sharing, int(time.time()))
            while mounts.copies:
                name = mounts.copies.pop()
                self._observe(
                    Note(f"the store was copied: the cache mount {name} starts empty, because its owners may be wrong")
                )
            if found is None:
                found = await self._add(keys, mount, sources)
            if isinstance(found, OpenCacheMount):
                return found
            await self._pool.job_without_core(AwaitCacheMount(mounts.directory, found.id))

    async def _add(
        self, keys: MountKeys, mount: PlannedCacheMount, sources: Sequence[int | None]
    ) -> OpenCacheMount | CacheMountInUse:
        """A new directory of this key: restored from another machine if it is the first one."""
        self._check_owner(mount)
        mounts = self._store.cache_mounts
        async with self._pool.locks(("cache mount", keys.here)):  # several steps can need it: it is restored once
            found = mounts.find(keys.here, mount.sharing, int(time.time()))
            if found is not None:
                return found
            restored = None if mounts.has(keys.here) else await self._restorer.restore(keys, mount)
            if restored is not None:
                return mounts.adopt(
                    keys.here, mount.name, restored.directory, mount.sharing, int(time.time()), restored.travel
                )
        made = await self._make(mount, sources)
        return mounts.adopt(keys.here, mount.name, made, mount.sharing, int(time.time()))

    def _check_owner(self, mount: PlannedCacheMount) -> None:
        ids = self._pool.id_map
        if not ids.has_uid(mount.uid) or not ids.has_gid(mount.gid):
            raise PrivilegeError(
                f"the cache mount for {mount.target} belongs to {mount.uid}:{mount.gid}, "
                "ids that this user may not use on this machine",
                hint=ids.missing_hint,
            )

    async def _make(self, mount: PlannedCacheMount, sources: Sequence[int | None]) -> str:
        """A new directory for a cache mount, with its initial content."""
        ingest = self._store.ingest
        directory, seed = ingest.new_path(), None
        if mount.source is not None:
            layers = await self._layers(mount, sources)
            if not self._resolve(mount, layers)[1]:
                raise CopyError(f"{mount.path}, the source of the cache mount for {mount.target}, is not a directory")
            seed = Output(ingest.new_path(), ingest.new_path(), Compression.UNCOMPRESSED.value, None)
            await self._pool.job(self._copy(mount, layers, seed))
        await self._pool.job(MakeCacheMount(directory, mount.mode, mount.uid, mount.gid, seed))
        return directory

    async def _keys(self, mount: PlannedCacheMount, sources: Sequence[int | None]) -> MountKeys:
        seed = "" if mount.source is None else await self.content(mount, sources)
        return mount_keys(mount, seed, self._pool.id_map.name)

    async def _layers(
        self, mount: FilesMount | PlannedCacheMount, sources: Sequence[int | None]
    ) -> tuple[LayerPlace, ...]:
        assert mount.source is not None
        return await self._stacks.layers(sources[mount.source])

    def _copy(self, mount: FilesMount | PlannedCacheMount, layers: tuple[LayerPlace, ...], output: Output) -> CopyFiles:
        """The job that copies the files of a mount to the root of an empty image."""
        request = CopyRequest((literal_pattern(mount.path),), "/", None)
        return CopyFiles(request, None, layers, (), self._store.ingest.new_path(), output)

    def _resolve(self, mount: FilesMount | PlannedCacheMount, layers: Sequence[LayerPlace]) -> tuple[str, bool]:
        """Where the path of a mount leads in its root filesystem, links followed; and whether it is a directory."""
        view = self._stacks.view(layers)
        try:
            path = view.resolve(os.fsencode(mount.path))
        except LinkLoop:
            raise CopyError(f"{mount.path}: too many levels of symbolic links") from None
        entry = view.lookup(path)
        if entry is None:
            raise CopyError(f"{mount.path}, to be mounted on {mount.target}, does not exist")
        if entry.kind not in (Kind.FILE, Kind.DIRECTORY):
            raise CopyError(f"{mount.path}, to be mounted on {mount.target}, is neither a file nor a directory")
        return "/" + os.fsdecode(path), entry.kind is Kind.DIRECTORY
