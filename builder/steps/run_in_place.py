"""RUN steps in the root of the container: one at a time, and each on what the one before has left.

Nothing is mounted and no tree is made: the root itself becomes what the step stands on, and its layer is written before the next
step begins (builder/jobs/in_place.py).
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, TypeAlias

from pybuild.builder.errors import BuildError, SandboxError, StepFailed
from pybuild.builder.events import Note, layer_progress
from pybuild.builder.host.in_place import SCRATCH, held_paths, restore_name_service
from pybuild.builder.jobs.in_place import CommitInPlace, CopiedMount, KeepCaches, PrepareInPlace, RootMemory
from pybuild.builder.plan.graph import FilesMount, PlannedCacheMount, ScriptMount
from pybuild.builder.sandbox.spec import SandboxSpec
from pybuild.builder.steps.mount_points import scaffold_for
from pybuild.builder.steps.mounts import MountedPaths, MountPoint, sandbox_mounts, with_home
from pybuild.parser import SecretMount, SshMount
from pybuild.store.errors import StoreError
from pybuild.store.formats.toc import Entry, Kind, Toc, sort_key
from pybuild.store.layers.root_switch import Held
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from pybuild.builder.events import StepRef
    from pybuild.builder.files.layer_contents import LayerPlace
    from pybuild.builder.files.passwd import Identity
    from pybuild.builder.plan.graph import Node, RunStep, StepMount
    from pybuild.builder.session import Session
    from pybuild.builder.steps.layer_stack import LayerStacks
    from pybuild.builder.steps.mount_sources import MountSources
    from pybuild.builder.steps.new_layers import NewLayers
    from pybuild.builder.steps.step_root import SourceFiles
    from pybuild.store.layers.view import View

    Execute: TypeAlias = Callable[[SandboxSpec, StepRef], Awaitable[None]]


@frozen
class _Placed:
    """The mounts of a step and where they go, and the tables of contents of what the root has and the image lacks."""

    copied: tuple[CopiedMount, ...]
    in_memory: tuple[tuple[StepMount, str], ...]  # each with its target
    targets: tuple[str, ...]  # of all mounts
    mount_points: str  # what is made for the step
    scaffold: str  # the same, and the directories above what is left alone


class InPlaceRuns:
    """Makes the RUN steps of one build in the root of this container."""

    def __init__(
        self, session: Session, stacks: LayerStacks, layers: NewLayers, mount_sources: MountSources, execute: Execute
    ) -> None:
        """`execute` runs a command to its end."""
        self._session = session
        self._store = session.store
        self._pool = session.pool
        self._stacks = stacks
        self._layers = layers
        self._mount_sources = mount_sources
        self._execute = execute
        self._memory: RootMemory | None = None

    async def make(
        self,
        node: Node,
        step: RunStep,
        layers: tuple[LayerPlace, ...],
        identity: Identity,
        sources: Sequence[int | None],
        ref: StepRef,
    ) -> str:
        """Run a step on `layers`, the topmost first; return its changeset. Raises BuildError, StoreError."""
        async with self._pool.locks(("container root",)):
            memory, self._memory = self._memory, None  # the root is unknown until the step has ended well
            restore_name_service()
            found = held_paths(self._store.root, self._pool.keep)
            held = found.paths
            _check_volumes(self._stacks.view(layers), found.volumes)
            with ExitStack() as caches:
                placed = await self._place(step, layers, sources, held, caches)
                facts, new_facts = self._store.ingest.new_path(), self._store.ingest.new_path()
                await self._pool.job(
                    PrepareInPlace(layers, memory, held, placed.mount_points, placed.copied, facts, SCRATCH)
                )
                output, spare = self._layers.output(node.id), self._store.ingest.new_path()
                try:
                    await self._execute(self._spec(step, identity, placed), ref)
                except StepFailed:
                    with suppress(BuildError, StoreError):  # what has failed first is said
                        await self._pool.job(KeepCaches(placed.copied, spare))
                    raise
                committed = await self._pool.job(
                    CommitInPlace(
                        layers,
                        held,
                        placed.scaffold,
                        placed.mount_points,
                        placed.copied,
                        placed.targets,
                        facts,
                        output,
                        new_facts,
                        spare,
                    ),
                    layer_progress(self._session.observe, ref),
                )
            for target in committed.ignored:
                self._session.observe(
                    Note(
                        f"{target} is mounted read-only: what the step wrote there is lost (nothing prevents it in-place)"
                    )
                )
            changeset = self._layers.adopt(committed.written, output)
            self._memory = RootMemory((self._stacks.layer(changeset), *layers), new_facts, placed.targets)
            for old in (facts, *(() if memory is None else (memory.facts,))):
                os.unlink(old)
            return changeset

    async def _place(
        self,
        step: RunStep,
        layers: Sequence[LayerPlace],
        sources: Sequence[int | None],
        held: Sequence[str],
        cache_mounts: ExitStack,
    ) -> _Placed:
        """Find what a step mounts, and where. Raises SandboxError if that is a place which is left alone."""
        view = self._stacks.view(layers)
        mounts = [mount for mount in self._session.secrets.available(step.mounts) if mount.target is not None]
        secret = any(isinstance(mount, SecretMount | SshMount) for mount in mounts)
        files = {
            mount: await self._mount_sources.files(mount, sources) for mount in mounts if isinstance(mount, FilesMount)
        }
        caches = await self._mount_sources.caches(step, sources, cache_mounts, secret=secret)
        points = [MountPoint(mount.target or "", _is_directory(mount, files)) for mount in mounts]
        scaffold = scaffold_for(view, points)
        left_alone = Held(frozenset(os.fsencode(path.strip("/")) for path in held))
        for mount, target in zip(mounts, scaffold.mounts, strict=True):
            if not isinstance(mount, ScriptMount):
                _check_target(target, left_alone)
        wanted = [os.fsencode(target.strip("/")) for target in scaffold.mounts]
        needed = [
            entry
            for entry in scaffold.entries
            if any(path == entry.path or path.startswith(entry.path + b"/") for path in wanted)
            and view.lookup(entry.path) is None
            and entry.path not in left_alone.above
            and not left_alone.has(entry.path)
        ]
        extra = [
            _found(path) for path in left_alone.above if view.lookup(path) is None and os.path.lexists(b"/" + path)
        ]
        copied = [
            copied
            for mount, target in zip(mounts, scaffold.mounts, strict=True)
            if (copied := _copied(mount, target, files, caches)) is not None
        ]
        return _Placed(
            tuple(sorted(copied, key=lambda one: one.target.split("/"))),
            tuple(
                (mount, target)
                for mount, target in zip(mounts, scaffold.mounts, strict=True)
                if isinstance(mount, SecretMount | SshMount | ScriptMount)
            ),
            scaffold.mounts,
            self._toc(needed),
            self._toc([*needed, *extra]),
        )

    def _toc(self, entries: Sequence[Entry]) -> str:
        return Toc.write(self._store.ingest.new_path(), sorted(entries, key=lambda entry: sort_key(entry.path)))

    def _spec(self, step: RunStep, identity: Identity, placed: _Placed) -> SandboxSpec:
        secrets, limits = self._session.secrets, self._session.options.limits
        return SandboxSpec(
            argv=step.argv,
            env=with_home(step.env, identity.home),
            cwd=step.cwd,
            uid=identity.uid,
            gid=identity.gid,
            groups=identity.groups,
            lowers=(),
            upper="",
            work="",
            mountpoint="",
            files="",
            resolv_conf="",
            hosts="",
            hostname="",
            resolv_conf_target="",
            hosts_target="",
            new_network=False,
            mounts=sandbox_mounts(
                [mount for mount, _ in placed.in_memory],
                [target for _, target in placed.in_memory],
                secrets,
                MountedPaths(),
            ),
            secrets=secrets.variables(step.mounts),
            rlimits=tuple((ulimit.number, ulimit.soft, ulimit.hard) for ulimit in limits.ulimits),
            in_place=True,
        )


def _check_volumes(view: View, volumes: Sequence[str]) -> None:
    """Raise SandboxError if a volume hides files of the image: the step would neither see nor change them."""
    for volume in volumes:
        path = os.fsencode(volume.strip("/"))
        entry = view.lookup(path)
        if entry is not None and (entry.kind is not Kind.DIRECTORY or view.readdir(path)):
            raise SandboxError(
                f"the image has {volume}, where this container has a volume or files of this build",
                hint="with the isolation in-place a RUN sees those, and not what the image has there: mount them elsewhere",
            )


def _is_directory(mount: StepMount, files: Mapping[FilesMount, SourceFiles]) -> bool:
    if isinstance(mount, FilesMount):
        return files[mount].is_directory
    return not isinstance(mount, SecretMount | SshMount)


def _check_target(target: str, held: Held) -> None:
    path = os.fsencode(target.strip("/"))
    if held.has(path) or path in held.above:
        raise SandboxError(
            f"the step mounts something on {target}, where this container has a mount of its own or something that is left alone",
            hint="with the isolation in-place nothing can be mounted there: choose another target, or another place for the volume",
        )


def _found(path: bytes) -> Entry:
    """The entry of a directory of the container that the image lacks."""
    status = os.lstat(b"/" + path)
    return Entry(
        path, Kind.DIRECTORY, status.st_mode & 0o7777, status.st_uid, status.st_gid, status.st_mtime_ns // 1_000_000_000
    )


def _copied(
    mount: StepMount,
    target: str,
    files: Mapping[FilesMount, SourceFiles],
    caches: Mapping[PlannedCacheMount, str],
) -> CopiedMount | None:
    """The mount as a copy; None if it is made in memory."""
    match mount:
        case FilesMount():
            source = files[mount]
            return CopiedMount(
                target,
                layers=source.layers,
                path=source.path,
                directory=source.is_directory,
                read_only=mount.read_only,
            )
        case PlannedCacheMount():
            path = "" if mount.source is not None else mount.path.strip("/")
            return CopiedMount(target, cache=caches[mount], path=path, read_only=mount.read_only)
        case SecretMount() | SshMount() | ScriptMount():
            return None
        case _:
            return CopiedMount(target, read_only=mount.read_only)
