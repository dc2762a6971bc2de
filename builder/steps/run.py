"""The making of RUN steps: what a step needs becomes a SandboxSpec, what it leaves a changeset with toc, tree and tar."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.builder.errors import PrivilegeError, SandboxError, StepFailed
from pybuild.builder.events import Note, StepOutput, step_broke
from pybuild.builder.files.layer_contents import layer_place
from pybuild.builder.host.id_map import MapKind
from pybuild.builder.host.obstacles import SEE_DOCTOR
from pybuild.builder.jobs.step import CommitStep, FinishStep, PrepareStep
from pybuild.builder.options import Network
from pybuild.builder.plan.graph import source_mounts
from pybuild.builder.sandbox.mounts import AgentSocket
from pybuild.builder.sandbox.spec import SandboxSpec
from pybuild.builder.steps.mount_points import scaffold_for
from pybuild.builder.steps.mount_sources import Mounting
from pybuild.builder.steps.mounts import mount_points, sandbox_mounts
from pybuild.builder.steps.pending_layer import Ahead
from pybuild.builder.steps.workspace import Workspace
from pybuild.builder.workers.tasks import with_background
from pybuild.store.formats.toc import Toc
from pybuild.store.layers.view import ROOT
from pybuild.store.objects.changesets import TREE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from pybuild.builder.events import Event, StepRef
    from pybuild.builder.files.layer_contents import LayerPlace
    from pybuild.builder.files.passwd import Identity
    from pybuild.builder.host.step_cgroups import Cgroups
    from pybuild.builder.options import BuildOptions
    from pybuild.builder.plan.graph import Node, RunStep
    from pybuild.builder.steps.image_users import Accounts
    from pybuild.builder.steps.layer_stack import Stacks
    from pybuild.builder.steps.new_layers import NewLayers
    from pybuild.builder.steps.pending_layer import Listed, Parent
    from pybuild.builder.steps.secrets import Handed
    from pybuild.builder.workers.pool import Pool
    from pybuild.store.store import Store

_REFUSED = (b"Invalid argument", b"Operation not permitted")  # what programs say where an id is missing
_HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
_SIGNALS = {1: "SIGHUP", 2: "SIGINT", 6: "SIGABRT", 9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE", 15: "SIGTERM"}


class Runs:
    """For one build."""

    def __init__(
        self,
        store: Store,
        pool: Pool,
        options: BuildOptions,
        observe: Callable[[Event], None],
        handed: Handed,
        cgroups: Cgroups | None,
        stacks: Stacks,
        accounts: Accounts,
        layers: NewLayers,
    ) -> None:
        self._store = store
        self._pool = pool
        self._options = options
        self._observe = observe
        self._handed = handed
        self._cgroups = cgroups
        self._stacks = stacks
        self._accounts = accounts
        self._layers = layers
        self._noted_network = False
        self._workspace = Workspace(store, pool)
        self._mounting = Mounting(store, pool, stacks)

    def tidy(self) -> None:
        """Remove what the steps that have ended needed while they ran. None may be running."""
        self._workspace.tidy()

    async def mounted(self, step: RunStep, sources: Sequence[int | None]) -> list[str]:
        """The digests of the files that a RUN has mounted."""
        return [await self._mounting.content(mount, sources) for mount in source_mounts(step)]

    async def run(
        self,
        node: Node,
        step: RunStep,
        parent: Parent,
        sources: Sequence[int | None],
        ref: StepRef,
        listed: Listed | None,
    ) -> str | None:
        """Run one step on a snapshot; return the changeset that it made. Raises BuildError, StoreError.

        `listed`, where somebody waits for it, is told that changeset as soon as others may begin on it. None where the
        parent was a step ahead of its layer, and another build has recorded that step before.
        """
        with self._workspace.directory() as directory, ExitStack() as held:
            async with _written(parent):
                layers = await self._stacks.layers(parent)
                view = self._stacks.view(layers)
                identity = (await self._accounts.of(view, layers)).identity(step.user)
                self._check_mapped(step.user, identity)
                mounts = self._handed.present(step.mounts)
                env = (
                    step.env
                    if any(pair.startswith("HOME=") for pair in step.env)
                    else (*step.env, f"HOME={identity.home}")
                )
                self._note_network(step)
                layers = await self._stacks.with_trees(layers)
                found = await self._mounting.find(step, sources, directory, held)
                scaffold = scaffold_for(view, mount_points(mounts, found))
                scaffold_tree = await self._workspace.scaffold(scaffold.entries)
                upper, work = f"{directory}/tree/{TREE}", f"{directory}/work"
                root = Toc.write(self._store.ingest.new_path(), [view.lookup(b"") or ROOT])
                os.mkdir(f"{directory}/tree", 0o700)
                await self._pool.job(PrepareStep(upper, work, root))
                limits = self._options.limits
                spec = SandboxSpec(
                    argv=step.argv,
                    env=env,
                    cwd=step.cwd,
                    uid=identity.uid,
                    gid=identity.gid,
                    groups=identity.groups,
                    lowers=(scaffold_tree.directory, *(layer.tree for layer in layers if layer.tree is not None)),
                    upper=upper,
                    work=work,
                    mountpoint=self._workspace.mountpoint,
                    files=self._workspace.files,
                    resolv_conf=_resolv_conf(),
                    hostname=step.hostname,
                    hosts=_HOSTS + "".join(f"{address}\t{name}\n" for name, address in self._options.hosts),
                    resolv_conf_target=scaffold.resolv_conf,
                    hosts_target=scaffold.hosts,
                    new_network=step.network is Network.NONE,
                    mounts=sandbox_mounts(mounts, scaffold.mounts, self._handed, found),
                    secrets=self._handed.variables(step.mounts),
                    insecure=step.insecure,
                    shm_size=limits.shm_size,
                    rlimits=tuple((ulimit.number, ulimit.soft, ulimit.hard) for ulimit in limits.ulimits),
                )
                begun = time.monotonic()
                try:
                    await self._command(spec, ref)
                except (StepFailed, SandboxError) as error:
                    if self._options.on_fail.wanted:
                        if isinstance(parent, Ahead):
                            await parent.written()  # while a shell is open nothing goes on
                        from pybuild.builder.steps.failed_step import Aftermath, FailedStep

                        self._observe(step_broke(ref, time.monotonic() - begun, error))
                        left = FailedStep(ref, spec, layers, scaffold_tree.toc)
                        aftermath = Aftermath(
                            self._options.on_fail, self._store, self._pool, self._handed.vault, self._observe
                        )
                        raise aftermath.of(left, error, self._in_cgroups).as_reported() from error
                    raise
                if isinstance(parent, Ahead):
                    changeset, *_ = self._store.snapshots.changesets(await parent.written())
                    if changeset != parent.changeset:
                        return None
                return await self._commit(node, directory, layers, scaffold_tree.toc, listed)

    async def _commit(
        self, node: Node, directory: str, below: tuple[LayerPlace, ...], scaffold: str, listed: Listed | None
    ) -> str:
        """Turn what a command has left in the directory of its step into a changeset."""
        changesets, id_map = self._store.changesets, self._pool.id_map.name
        output = self._layers.output_of_tree(node.id)
        # A step with limits that fails ends all workers, whoever waits for them.
        list_if_large = listed is not None and self._cgroups is None
        committed = await self._pool.job(CommitStep(f"{directory}/tree/{TREE}", below, scaffold, output, list_if_large))
        changeset = changesets.adopt_with_tree(output.toc, id_map, f"{directory}/tree")
        written = committed.written
        if written is None:
            assert listed is not None
            listed(changeset)
            layer = layer_place(self._store, changeset, id_map)
            assert layer.tree is not None
            output = self._layers.output_of_tree(node.id)
            written = await self._pool.job(FinishStep(layer.toc, layer.tree, output))
            changesets.replace_toc(changeset, output.toc)
            self._stacks.forget(changeset)
        self._layers.add_tar(changeset, written, output)
        return changeset

    async def _command(self, spec: SandboxSpec, ref: StepRef) -> None:
        """Run the command of a step. Raises StepFailed, SandboxError."""
        refused = False

        def output_came(stream: int, data: bytes) -> None:
            nonlocal refused
            refused = refused or any(words in data for words in _REFUSED)
            self._observe(StepOutput(ref, stream, data))

        with self._in_cgroups(spec) as limited:
            running = self._pool.run_step(limited, output_came, self._handed.vault)
            status = await with_background(running, self._workspace.tidy_meanwhile())
            if status.signal is not None:
                raise StepFailed(f"RUN was ended by signal {_SIGNALS.get(status.signal, status.signal)}", status.code)
            if status.code:
                raise StepFailed(
                    f"RUN exited with status {status.code}",
                    status.code,
                    hint=self._single_id_hint() if refused else None,
                )

    @contextmanager
    def _in_cgroups(self, spec: SandboxSpec) -> Iterator[SandboxSpec]:
        """The same step with the limits of this build. Raises what it ends with, or StepFailed where a limit was the cause."""
        if self._cgroups is None:
            yield spec
            return
        with self._cgroups.step(more=any(isinstance(mount, AgentSocket) for mount in spec.mounts)) as cgroups:
            try:
                yield replace(spec, cgroups=cgroups.directories)
            except BaseException as error:
                self._pool.stop()  # what is in there may go on, and a cgroup goes last
                if isinstance(error, StepFailed | SandboxError):
                    raise cgroups.explain(error) from None
                raise
            if cgroups.out_of_memory is not None:
                self._observe(Note(f"a process of a RUN that succeeded was {cgroups.out_of_memory}"))

    def _check_mapped(self, user: str, identity: Identity) -> None:
        """Raise PrivilegeError where the namespace lacks the step's user; the kernel would only say EINVAL."""
        ids = self._pool.id_map
        groups = () if ids.kind is MapKind.SINGLE else identity.groups
        if ids.has_uid(identity.uid) and all(ids.has_gid(gid) for gid in (identity.gid, *groups)):
            return
        raise PrivilegeError(
            f"USER {user} needs user {identity.uid} and group {identity.gid}, which this machine's user may not use",
            hint=ids.missing_hint,
        )

    def _single_id_hint(self) -> str | None:
        """What to say below a failed command that seems to have tried to use a second id."""
        ids = self._pool.id_map
        if ids.kind is not MapKind.SINGLE:
            return None
        return f"here a RUN has one user and one group, chown to others fails: {ids.missing}; {SEE_DOCTOR}"

    def _note_network(self, step: RunStep) -> None:
        if step.network is Network.DEFAULT and not self._noted_network:
            self._noted_network = True
            self._observe(Note("RUN steps use the network of this machine; --network=none gives them none"))


@asynccontextmanager
async def _written(below: Parent) -> AsyncIterator[None]:
    """A step that fails waits for the layer below it: that step has succeeded, and the next build shall find it."""
    try:
        yield
    except Exception:
        if isinstance(below, Ahead):
            await below.written()
        raise


def _resolv_conf() -> str:
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="surrogateescape") as file:
            return file.read(1 << 20)
    except OSError:
        return ""
