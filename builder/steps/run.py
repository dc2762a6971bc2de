"""Making RUN steps: from the step to a SandboxSpec, and from the files that the command leaves to a changeset."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from pybuild.builder.errors import PrivilegeError, SandboxError, StepFailed
from pybuild.builder.events import Note, StepOutput, step_broke
from pybuild.builder.host.id_map import MapKind
from pybuild.builder.host.mountinfo import filesystem_of
from pybuild.builder.host.network import host_gateway, read_resolv_conf, step_resolv_conf
from pybuild.builder.host.obstacles import SEE_DOCTOR
from pybuild.builder.options import HOST_GATEWAY, Network
from pybuild.builder.plan.graph import source_mounts
from pybuild.builder.sandbox.mounts import AgentSocket
from pybuild.builder.sandbox.spec import SandboxSpec
from pybuild.builder.sandbox.trial import HOST_NAME, PROC, SYS
from pybuild.builder.steps.copied_roots import CopiedRoots
from pybuild.builder.steps.full_disk import full_disk_hint
from pybuild.builder.steps.mount_points import scaffold_for
from pybuild.builder.steps.mount_sources import MountSources
from pybuild.builder.steps.mounts import mount_points, sandbox_mounts, with_home
from pybuild.builder.steps.overlay_roots import OverlayRoots
from pybuild.builder.steps.pending_layer import PendingLayer
from pybuild.builder.steps.workspace import Workspace
from pybuild.builder.workers.pool import COPIES_WANTED
from pybuild.builder.workers.tasks import with_background
from pybuild.parser import SecretMount, SshMount
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from pybuild.builder.events import StepRef
    from pybuild.builder.files.passwd import Identity
    from pybuild.builder.host.rung import Rung
    from pybuild.builder.plan.graph import Node, RunStep
    from pybuild.builder.sandbox.uplink import Uplink
    from pybuild.builder.secrets import BuildSecrets
    from pybuild.builder.session import Session
    from pybuild.builder.steps.image_users import ImageUsers
    from pybuild.builder.steps.layer_stack import LayerStacks
    from pybuild.builder.steps.mount_sources import MountRestorer
    from pybuild.builder.steps.new_layers import NewLayers
    from pybuild.builder.steps.pending_layer import OnListed, Parent
    from pybuild.builder.steps.run_in_place import InPlaceRuns
    from pybuild.builder.steps.step_root import StepRoot, StepRoots

_REFUSED_ID = (b"Invalid argument", b"Operation not permitted")  # what programs print if chown to an id fails
_FULL = (b"No space left on device", b"Disk quota exceeded")
_SIGNALS = {1: "SIGHUP", 2: "SIGINT", 6: "SIGABRT", 9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE", 15: "SIGTERM"}


@frozen
class _PreparedRun:
    """A RUN that is ready to start."""

    spec: SandboxSpec
    root: StepRoot
    roots: StepRoots  # the way in which `root` was made


class RunMaker:
    """Makes the RUN steps of one build."""

    def __init__(
        self,
        session: Session,
        stacks: LayerStacks,
        users: ImageUsers,
        layers: NewLayers,
        restorer: MountRestorer,
        below_runs: frozenset[int],
    ) -> None:
        """`below_runs` are the nodes on which a RUN stands."""
        self._session = session
        self._store = session.store
        self._pool = session.pool
        self._stacks = stacks
        self._users = users
        self._noted: set[str] = set()
        self._workspace = Workspace(session)
        self._layers = layers
        self._mount_sources = MountSources(session, stacks, restorer)
        self._overlays = OverlayRoots(session, stacks, layers, self._workspace)
        self._copies = CopiedRoots(session, stacks, layers, below_runs)

    def tidy(self) -> None:
        """Remove the directories of steps that have ended. No step may be running."""
        self._copies.tidy()
        self._workspace.tidy()

    async def mounted(self, step: RunStep, sources: Sequence[int | None]) -> list[str]:
        """The digests of the files that the step mounts from its sources."""
        return [await self._mount_sources.content(mount, sources) for mount in source_mounts(step)]

    async def make(
        self,
        node: Node,
        step: RunStep,
        parent: Parent,
        sources: Sequence[int | None],
        ref: StepRef,
        on_listed: OnListed | None,
    ) -> str | None:
        """Run a step; return the changeset that it made. Raises BuildError, StoreError.

        `on_listed` is called with the changeset as soon as the next step can begin on it. Returns None if `parent` was
        pending and another build has recorded that step first: then this step ran on a tree that the image will not
        have. Also if the step must run again for another reason (copied_roots.py).
        """
        with _absence_explained(self._session.secrets, step):
            if self._pool.rung.in_place:
                return await self._make_in_place(node, step, parent, sources, ref)
            with self._workspace.directory() as directory, ExitStack() as cache_mounts:
                async with _parent_written_on_failure(parent):
                    prepared = await self._prepare(step, parent, sources, directory, cache_mounts)
                    if on_listed is not None:  # a RUN comes next
                        prepared = replace(prepared, spec=replace(prepared.spec, gate_ahead=True))
                    await self._execute(prepared, parent, ref)
                    if isinstance(parent, PendingLayer):
                        changeset, *_ = self._store.snapshots.changesets(await parent.written())
                        if changeset != parent.changeset:
                            return None
                    return await prepared.roots.commit(node, prepared.root, ref, on_listed)

    async def _make_in_place(
        self, node: Node, step: RunStep, parent: Parent, sources: Sequence[int | None], ref: StepRef
    ) -> str:
        self._note_surroundings(step)
        if isinstance(parent, PendingLayer):
            parent = await parent.written()
        layers = await self._stacks.layers(parent)
        identity = (await self._users.of(self._stacks.view(layers), layers)).identity(step.user)
        return await self._in_place.make(node, step, layers, identity, sources, ref)

    @cached_property
    def _in_place(self) -> InPlaceRuns:
        from pybuild.builder.steps.run_in_place import InPlaceRuns

        return InPlaceRuns(self._session, self._stacks, self._layers, self._mount_sources, self._command)

    async def _prepare(
        self,
        step: RunStep,
        parent: Parent,
        sources: Sequence[int | None],
        directory: str,
        cache_mounts: ExitStack,
    ) -> _PreparedRun:
        """Make the directories of a step and take its cache mounts."""
        layers = await self._stacks.layers(parent)
        view = self._stacks.view(layers)
        identity = (await self._users.of(view, layers)).identity(step.user)
        self._check_mapped(step.user, identity)
        secrets, options = self._session.secrets, self._session.options
        mounts = secrets.available(step.mounts)
        rung, uplink = self._note_surroundings(step)
        roots = await self._roots()
        secret = any(isinstance(mount, SecretMount | SshMount) for mount in mounts)
        paths = await self._mount_sources.find(step, sources, directory, roots, cache_mounts, secret=secret)
        scaffold = scaffold_for(view, mount_points(mounts, paths))
        root = await roots.prepare(layers, scaffold, directory)
        spec = SandboxSpec(
            argv=step.argv,
            env=with_home(step.env, identity.home),
            cwd=step.cwd,
            uid=identity.uid,
            gid=identity.gid,
            groups=identity.groups,
            lowers=root.lowers,
            upper=root.upper,
            work=root.work,
            mountpoint=self._workspace.mountpoint,
            files=self._workspace.files,
            resolv_conf=read_resolv_conf() if uplink is None else step_resolv_conf(read_resolv_conf(), uplink),
            hostname=step.hostname if rung.has_own(HOST_NAME) else "",
            hosts=_hosts(step.hostname if rung.has_own(HOST_NAME) else os.uname().nodename, options.hosts),
            resolv_conf_target=scaffold.resolv_conf,
            hosts_target=scaffold.hosts,
            new_network=step.network is Network.NONE or uplink is not None,
            uplink=uplink,
            mounts=sandbox_mounts(mounts, scaffold.mounts, secrets, paths),
            secrets=secrets.variables(step.mounts),
            insecure=step.insecure,
            shm_size=options.limits.shm_size,
            own_proc=rung.has_own(PROC),
            own_sys=rung.has_own(SYS),
            # Of its own for an insecure step too: it could register handlers of programs (emulators.py) for other steps.
            own_ids=rung.own_ids or (self._pool.id_map.step_maps() if step.insecure else None),
            rlimits=tuple((ulimit.number, ulimit.soft, ulimit.hard) for ulimit in options.limits.ulimits),
        )
        return _PreparedRun(spec, root, roots)

    async def _execute(self, prepared: _PreparedRun, parent: Parent, ref: StepRef) -> None:
        """Run the command to its end. Raises StepFailed, SandboxError, after doing what --on-fail asks for."""
        begun = time.monotonic()
        try:
            await self._command(prepared.spec, ref)
        except (StepFailed, SandboxError) as error:
            if not self._session.options.on_fail.wanted:
                raise
            if isinstance(parent, PendingLayer):
                await parent.written()  # nothing else may run while a shell is open
            from pybuild.builder.steps.failed_step import FailedStep, FailureHandler

            self._session.observe(step_broke(ref, time.monotonic() - begun, error))
            failed = FailedStep(ref, prepared.spec, prepared.root.layers, prepared.root.scaffold_toc)
            handled = FailureHandler(self._session).handle(failed, error, self._in_cgroups)
            raise handled.as_reported() from error

    async def _command(self, spec: SandboxSpec, ref: StepRef) -> None:
        """Run the command of a step. Raises StepFailed, SandboxError."""
        refused_id = says_full = False

        def on_output(stream: int, data: bytes) -> None:
            nonlocal refused_id, says_full
            refused_id = refused_id or any(words in data for words in _REFUSED_ID)
            says_full = says_full or any(words in data for words in _FULL)
            self._session.observe(StepOutput(ref, stream, data))

        with self._in_cgroups(spec) as limited:
            running = self._pool.run_step(limited, on_output, self._session.secrets.vault)
            status = await with_background(running, self._workspace.tidy_meanwhile())
            if status.signal is not None or status.code:
                # Now, because the files of the step are removed before its error is shown.
                hint = full_disk_hint(self._store.root, says_full=says_full)
                if status.signal is not None:
                    name = _SIGNALS.get(status.signal, status.signal)
                    raise StepFailed(f"RUN was ended by signal {name}", status.code, hint=hint)
                hint = (self._single_id_hint() if refused_id else None) or hint
                raise StepFailed(f"RUN exited with status {status.code}", status.code, hint=hint)

    @contextmanager
    def _in_cgroups(self, spec: SandboxSpec) -> Iterator[SandboxSpec]:
        """The same step under the limits of this build. If a limit ended it, raises StepFailed that says so."""
        if self._session.cgroups is None:
            yield spec
            return
        with self._session.cgroups.step(
            extra_processes=any(isinstance(mount, AgentSocket) for mount in spec.mounts)
        ) as cgroups:
            try:
                yield replace(spec, cgroups=cgroups.directories)
            except BaseException as error:
                self._pool.stop()  # a cgroup with a running process cannot be removed
                if isinstance(error, StepFailed | SandboxError):
                    raise cgroups.explain(error) from None
                raise
            if cgroups.out_of_memory is not None:
                self._session.observe(Note(f"a process of a RUN that succeeded was {cgroups.out_of_memory}"))

    def _check_mapped(self, user: str, identity: Identity) -> None:
        """Raise PrivilegeError if the namespace lacks the step's user; the kernel would only say EINVAL."""
        ids = self._pool.id_map
        groups = () if ids.kind is MapKind.SINGLE else identity.groups
        if ids.has_uid(identity.uid) and all(ids.has_gid(gid) for gid in (identity.gid, *groups)):
            return
        raise PrivilegeError(
            f"USER {user} needs user {identity.uid} and group {identity.gid}, which this machine's user may not use",
            hint=ids.missing_hint,
        )

    def _single_id_hint(self) -> str | None:
        """The hint for a command that seems to have failed because it tried to use a second id."""
        ids = self._pool.id_map
        if ids.kind is not MapKind.SINGLE:
            return None
        return f"a RUN has one user and one group here, and chown to another one fails: {ids.missing}; {SEE_DOCTOR}"

    def _note_surroundings(self, step: RunStep) -> tuple[Rung, Uplink | None]:
        """Find what keeps steps apart here, and tell once what they can reach. Raises PrivilegeError."""
        rung = self._pool.rung
        if rung.own_ids is not None and not self._noted and filesystem_of(self._store.root) == "tmpfs":
            usage = shutil.disk_usage(self._store.root)
            self._note(f"the store {self._store.root} is in memory, where it can take {usage.total >> 20} MiB")
        if not rung.is_full:
            self._note(rung.note())
        if rung.in_place or step.network is not Network.DEFAULT:
            return rung, None
        network = self._pool.network
        if text := network.note():
            self._note(text)
        return rung, network.uplink

    async def _roots(self) -> StepRoots:
        """The way to make root filesystems here. Raises PrivilegeError, SandboxError."""
        obstacle = await self._pool.overlay_obstacle(self._store.ingest.new_path)
        if not obstacle:
            return self._overlays
        self._note(copies_note(obstacle))
        if os.statvfs(self._store.root).f_flag & os.ST_NOSUID:
            self._note(
                "the filesystem of the store is mounted with nosuid: sudo and capabilities of files do nothing in a RUN"
            )
        return self._copies

    def _note(self, text: str) -> None:
        """Tell the user something, once a build."""
        if text not in self._noted:
            self._noted.add(text)
            self._session.observe(Note(text))


@asynccontextmanager
async def _parent_written_on_failure(parent: Parent) -> AsyncIterator[None]:
    """If a step fails on a pending layer, wait for that layer: its step succeeded, and the next build must find it."""
    try:
        yield
    except Exception:
        if isinstance(parent, PendingLayer):
            await parent.written()
        raise


@contextmanager
def _absence_explained(secrets: BuildSecrets, step: RunStep) -> Iterator[None]:
    """If the command fails without a hint, name the secrets and agents that it mounts and that were not given."""
    try:
        yield
    except StepFailed as error:
        if error.hint is None and (absence := secrets.absence(step.mounts)):
            raise error.hinting(absence) from error
        raise


def copies_note(obstacle: str) -> str:
    """One line that says that steps do not run in overlays, and why."""
    if obstacle == COPIES_WANTED:
        return f"RUN steps work in copies of their files, as {COPIES_WANTED} asks for"
    return (
        f"RUN steps work in copies of their files, because the filesystem of the store takes no overlay ({obstacle}): a volume"
        f" or a tmpfs is faster; {SEE_DOCTOR}"
    )


def _hosts(hostname: str, more: Sequence[tuple[str, str]]) -> str:
    """The step's /etc/hosts, with its own host name (sudo and Java look it up); `more` are names with addresses."""
    own = f"127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    return own + "".join(
        f"{host_gateway() if address == HOST_GATEWAY else address}\t{name}\n" for name, address in more
    )
