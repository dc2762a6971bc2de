"""Making what a step makes: a changeset with its toc and tar, and for a RUN its tree.

Each function takes the snapshots that the step reads, has workers do the work in the ingest directory, and records
what came of it in the store. Nothing is visible before it is whole; a step that fails leaves nothing.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, assert_never

from builder.copyfiles import CopyRequest
from builder.errors import BuildError, PrivilegeError, SandboxError, StepFailed
from builder.events import Note, StepOutput, broke
from builder.machine import SEE_DOCTOR
from builder.mounting import Mounting
from builder.mounts import bound, mount_points, sandbox_mounts
from builder.options import Network
from builder.plan import BaseStep, CopyStep, RunStep, WorkdirStep
from builder.platforms import check_runnable
from builder.sandbox.mounts import Agent
from builder.sandbox.spec import SandboxSpec
from builder.scaffold import scaffold_for
from builder.stacks import Stacks
from builder.userns import MapKind
from builder.users import UserDatabase
from builder.workdir import missing_directories
from builder.workers.copy_jobs import CopyFiles
from builder.workers.job import Output, write_entries
from builder.workers.step_jobs import CommitStep, PrepareStep, ReadFile
from builder.workers.tasks import beside
from builder.workspace import Workspace
from store.changeset import TREE, LayerBlob
from store.compression import Compression
from store.digest import Digest
from store.toc import Kind, Toc
from store.view import ROOT, LinkLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from builder.cgroups import Cgroups
    from builder.contents import LayerPlace
    from builder.contextsource import ContextSource
    from builder.events import Event, StepRef
    from builder.handed import Handed
    from builder.options import BuildOptions
    from builder.plan import Node
    from builder.remotes import Remotes
    from builder.users import Identity
    from builder.workers.job import Written
    from builder.workers.pool import Pool
    from store.store import Store
    from store.toc import Entry
    from store.view import View

_ACCOUNTS_LIMIT = 10 << 20  # bytes of /etc/passwd or /etc/group
_REFUSED = (b"Invalid argument", b"Operation not permitted")  # what programs say where an id is missing
_HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
_SIGNALS = {1: "SIGHUP", 2: "SIGINT", 6: "SIGABRT", 9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE", 15: "SIGTERM"}


@dataclass(frozen=True, slots=True)
class Made:
    """What a step made; `content` is the digest of what a COPY copied."""

    changeset: str
    content: str = ""


class ContextSources(Protocol):
    """Where the files of contexts are."""

    def source(self, name: str) -> ContextSource: ...


class Steps:
    """The making of steps, for one build."""

    def __init__(
        self,
        store: Store,
        pool: Pool,
        options: BuildOptions,
        contexts: ContextSources,
        remotes: Remotes,
        compression: Compression,
        observe: Callable[[Event], None],
        handed: Handed,
        run_on: frozenset[int],
        cgroups: Cgroups | None,
    ) -> None:
        """`run_on` are the snapshots of images that steps run on, as far as that is known before."""
        self._store = store
        self._pool = pool
        self._options = options
        self._contexts = contexts
        self._remotes = remotes
        self._compression = compression
        self._observe = observe
        self._handed = handed
        self._cgroups = cgroups
        self._noted_network = False
        self._files: dict[bytes, bytes] = {}  # sha256 -> content of small files of images
        self._stacks = Stacks(store, pool, run_on)
        self._workspace = Workspace(store, pool)
        self._mounting = Mounting(store, pool, self._stacks)

    async def content(self, node: Node, parent: int | None, source: int | None) -> str:
        """The digest of what a COPY would copy, found without writing anything."""
        assert isinstance(node.step, CopyStep)
        return (await self._copy_job(node.step, parent, source, self._store.ingest.new_path())).content()

    async def rows(self, node: Node, parent: int | None, source: int | None) -> list[Entry]:
        """The rows of all that a COPY would copy, with the digests of their content, without writing anything."""
        assert isinstance(node.step, CopyStep)
        return (await self._copy_job(node.step, parent, source, self._store.ingest.new_path())).rows()

    async def identify(self, step: CopyStep) -> None:
        """Find out what the sources of a step that are elsewhere are at the moment. Raises BuildError."""
        for _, source in step.remote:
            await self._remotes.identify(source)

    def identities(self, step: CopyStep) -> list[str | None]:
        """What `identify` has found; None for what it has not."""
        return [self._remotes.identity(source) for _, source in step.remote]

    def stop(self) -> None:
        """End whatever is running for this build."""
        self._pool.stop()
        self._workspace.tidy()

    def tidy(self) -> None:
        """Remove what the steps that have ended needed while they ran."""
        self._workspace.tidy()

    async def make(self, node: Node, parent: int | None, sources: Sequence[int | None], ref: StepRef) -> Made:
        """Run one step. Raises BuildError, StoreError."""
        match node.step:
            case RunStep():
                check_runnable(node.platform)
                return await self._run(node.step, parent, sources, ref)
            case CopyStep():
                return await self._copy(node.step, parent, sources[0] if sources else None)
            case WorkdirStep():
                return await self._workdir(node.step, parent)
            case BaseStep():
                raise AssertionError("an image is never made")
            case _:
                assert_never(node.step)

    async def mounted(self, step: RunStep, sources: Sequence[int | None]) -> list[str]:
        """The digests of the files that a RUN has mounted."""
        return [await self._mounting.content(mount, sources) for mount in bound(step)]

    async def _run(self, step: RunStep, parent: int | None, sources: Sequence[int | None], ref: StepRef) -> Made:
        layers = await self._stacks.layers(parent)
        view = self._stacks.view(layers)
        identity = (await self._accounts(view, layers)).identity(step.user)
        self._check_mapped(step.user, identity)
        mounts = self._handed.present(step.mounts)
        env = step.env if any(pair.startswith("HOME=") for pair in step.env) else (*step.env, f"HOME={identity.home}")
        self._note_network(step)
        layers = await self._stacks.with_trees(layers)
        with self._workspace.directory() as directory, ExitStack() as held:
            found = await self._mounting.find(step, sources, directory, held)
            scaffold = scaffold_for(view, mount_points(mounts, found))
            scaffold_tree = await self._workspace.scaffold(scaffold.entries)
            output = self._output()
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
                    from builder.aftermath import Aftermath, FailedStep

                    self._observe(broke(ref, time.monotonic() - begun, error))
                    error.told = True
                    left = FailedStep(ref, spec, layers, scaffold_tree.toc)
                    aftermath = Aftermath(
                        self._options.on_fail, self._store, self._pool, self._handed.vault, self._observe
                    )
                    aftermath.of(left, error, self._in_cgroups)
                raise
            written = await self._pool.job(CommitStep(upper, layers, scaffold_tree.toc, output))
            changeset = self._adopt(written, output)
            self._store.changesets.adopt_tree(changeset, self._pool.id_map.name, f"{directory}/tree")
        return Made(changeset)

    async def _command(self, spec: SandboxSpec, ref: StepRef) -> None:
        """Run the command of a step. Raises StepFailed, SandboxError."""
        refused = False

        def output_came(stream: int, data: bytes) -> None:
            nonlocal refused
            refused = refused or any(words in data for words in _REFUSED)
            self._observe(StepOutput(ref, stream, data))

        with self._in_cgroups(spec) as limited:
            running = self._pool.run_step(limited, output_came, self._handed.vault)
            status = await beside(running, self._workspace.tidy_meanwhile())
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
        with self._cgroups.step(more=any(isinstance(mount, Agent) for mount in spec.mounts)) as cgroups:
            try:
                yield replace(spec, cgroups=cgroups.directories)
            except BaseException as error:
                self._pool.stop()  # what is in there may go on, and a cgroup goes last
                if isinstance(error, StepFailed | SandboxError):
                    raise cgroups.explained(error) from None
                raise
            if cgroups.out_of_memory is not None:
                self._observe(Note(f"a process of a RUN that succeeded was {cgroups.out_of_memory}"))

    async def _copy(self, step: CopyStep, parent: int | None, source: int | None) -> Made:
        job = await self._copy_job(step, parent, source, self._store.ingest.new_path())
        try:
            written = await self._pool.job(job)
        except PrivilegeError:
            # The trees of an earlier build lie in a namespace that cannot be had here and now: the tars hold the same.
            job = await self._copy_job(step, parent, source, self._store.ingest.new_path())
            if job.in_namespace or any(layer.blob is None for layer in job.layers):
                raise
            written = await self._pool.job(job)
        if written.sockets:
            count = "a socket" if written.sockets == 1 else f"{written.sockets} sockets"
            self._observe(Note(f"{count} of the context copied as empty files"))
        return Made(self._adopt(written, job.output), written.content)

    async def _copy_job(self, step: CopyStep, parent: int | None, source: int | None, spool: str) -> CopyFiles:
        below = () if step.link else await self._stacks.layers(parent)
        owner = None
        if step.chown is not None:
            owner = (await self._accounts(self._stacks.view(below), below)).owner(step.chown)
        request = CopyRequest(
            step.sources, step.dest, owner, step.mode, step.exclude, step.parents, step.inline, int(time.time()),
            step.unpack, step.unpack_remote,
        )  # fmt: skip
        context = self._contexts.source(step.context) if step.has_context else None
        fetched = tuple([await self._remotes.fetched(source, position) for position, source in step.remote])
        layers = await self._stacks.layers(source) if step.from_stage else ()
        return CopyFiles(request, context, layers, below, spool, self._output(), fetched)

    async def _workdir(self, step: WorkdirStep, parent: int | None) -> Made:
        layers = await self._stacks.layers(parent)
        view = self._stacks.view(layers)
        uid, gid = (await self._accounts(view, layers)).workdir_owner(step.user) if step.user else (0, 0)
        try:
            entries = missing_directories(view, step.path, uid, gid, int(time.time()))
        except LinkLoop:
            raise BuildError(f"WORKDIR {step.path}: too many levels of symbolic links in the image") from None
        output = self._output()
        # A few rows without content: not worth a worker.
        return Made(self._adopt(write_entries(entries, output), output))

    def _adopt(self, written: Written, output: Output) -> str:
        """Make a written layer part of the store; return its changeset."""
        blob = LayerBlob(
            Digest.parse(written.diff_id), Digest.parse(written.digest), written.size, Compression(output.compression)
        )
        self._store.blobs.adopt(output.blob, blob.digest, blob.size)
        changeset = self._store.changesets.adopt(output.toc)
        self._store.changesets.add_tar(changeset, output.clamp, blob)
        return changeset

    def _output(self) -> Output:
        ingest = self._store.ingest
        return Output(ingest.new_path(), ingest.new_path(), self._compression.value, self._options.epoch)

    def _check_mapped(self, user: str, identity: Identity) -> None:
        """Raise PrivilegeError where the namespace lacks the step's user; the kernel would only say EINVAL."""
        ids = self._pool.id_map
        groups = () if ids.kind is MapKind.SINGLE else identity.groups
        if ids.has_uid(identity.uid) and all(ids.has_gid(gid) for gid in (identity.gid, *groups)):
            return
        raise PrivilegeError(
            f"USER {user} needs user {identity.uid} and group {identity.gid}, which this machine's user may not use",
            hint=ids.lack,
        )

    def _single_id_hint(self) -> str | None:
        """What to say below a failed command that seems to have tried to use a second id."""
        ids = self._pool.id_map
        if ids.kind is not MapKind.SINGLE:
            return None
        return f"here a RUN has one user and one group, chown to others fails: {ids.missing}; {SEE_DOCTOR}"

    async def _accounts(self, view: View, layers: Sequence[LayerPlace]) -> UserDatabase:
        return UserDatabase(await self._read(view, layers, b"etc/passwd"), await self._read(view, layers, b"etc/group"))

    async def _read(self, view: View, layers: Sequence[LayerPlace], path: bytes) -> bytes:
        """A file of the image, small and regular; nothing where there is none."""
        name = "/" + path.decode("ascii")
        try:
            located = view.locate(view.resolve(path))
        except LinkLoop:
            raise BuildError(f"{name} of the image has too many levels of symbolic links") from None
        if located is None:
            return b""
        toc, entry = located
        if entry.kind is not Kind.FILE:
            raise BuildError(f"{name} of the image is not a regular file")
        if entry.size > _ACCOUNTS_LIMIT:
            raise BuildError(f"{name} of the image exceeds {_ACCOUNTS_LIMIT} bytes")
        if entry.sha256 not in self._files:
            self._files[entry.sha256] = await self._read_file(layers, view.layers.index(toc), entry)
        return self._files[entry.sha256]

    async def _read_file(self, layers: Sequence[LayerPlace], layer: int, entry: Entry) -> bytes:
        job = ReadFile(tuple(layers), layer, os.fsdecode(entry.path), self._store.ingest.new_path())
        try:
            return bytes.fromhex(job.run().hex)
        except PermissionError:
            # Behind a directory that its owner, an id of the namespace, has closed.
            return bytes.fromhex((await self._pool.job(job)).hex)

    def _note_network(self, step: RunStep) -> None:
        if step.network is Network.DEFAULT and not self._noted_network:
            self._noted_network = True
            self._observe(Note("RUN steps use the network of this machine; --network=none gives them none"))


def _resolv_conf() -> str:
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="surrogateescape") as file:
            return file.read(1 << 20)
    except OSError:
        return ""
