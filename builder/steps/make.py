"""Making a step: a changeset with its toc and tar, and for a RUN its tree.

Workers do the work in the ingest directory; then the result becomes part of the store. Nothing is visible before it is
complete, and a step that fails leaves nothing behind.
"""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, assert_never

from pybuild.builder.errors import BuildError, PrivilegeError
from pybuild.builder.events import Note, layer_progress
from pybuild.builder.files.copy import CopyRequest
from pybuild.builder.files.passwd import UserDatabase, is_numeric
from pybuild.builder.options import Isolation
from pybuild.builder.plan.graph import BaseStep, CopyStep, RunStep, WorkdirStep
from pybuild.builder.sandbox.container_root import entered
from pybuild.builder.steps.foreign import ForeignRuns
from pybuild.builder.steps.image_users import ImageUsers
from pybuild.builder.steps.layer_stack import LayerStacks, bases_of_runs
from pybuild.builder.steps.new_layers import NewLayers, nodes_with_layers
from pybuild.builder.steps.pending_layer import PendingLayer
from pybuild.builder.steps.workdir import missing_directories
from pybuild.store.formats.windows_layer import with_hives
from pybuild.store.layers.view import LinkLoop
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pybuild.builder.events import StepRef
    from pybuild.builder.files.context_source import ContextSource
    from pybuild.builder.files.layer_contents import LayerPlace
    from pybuild.builder.jobs.copy import CopyFiles
    from pybuild.builder.plan.graph import Node, Plan
    from pybuild.builder.session import Session
    from pybuild.builder.sources.downloads import RemoteSources
    from pybuild.builder.steps.layer_stack import TableFinder
    from pybuild.builder.steps.mount_sources import MountRestorer
    from pybuild.builder.steps.pending_layer import OnListed, Parent
    from pybuild.builder.steps.run import RunMaker
    from pybuild.store.formats.compression import Compression
    from pybuild.store.formats.toc import Entry
    from pybuild.store.layers.view import View


@frozen
class MadeLayer:
    """The result of a step that ran."""

    changeset: str
    content: str = ""  # of a COPY: the digest of what it copied
    sources: str = ""  # of a COPY: the digest of its sources alone, if records travel


class ContextFinder(Protocol):
    """Finds the files of contexts."""

    def source(self, name: str) -> ContextSource:
        """The context of that name; "" is the main one."""
        ...

    @property
    def remotes(self) -> RemoteSources:
        """The sources on other machines. A build without such sources must not use this property."""
        ...


def copy_request(step: CopyStep, owner: tuple[int, int] | None, now: int) -> CopyRequest:
    """The part of a step that its worker needs. `owner` is --chown as uid and gid; `now` is in seconds since the epoch."""
    return CopyRequest(
        sources=step.sources,
        dest=step.dest,
        owner=owner,
        mode=step.mode,
        exclude=step.exclude,
        parents=step.parents,
        inline=step.inline,
        inline_time=now,
        unpack=step.unpack,
        unpack_fetched=step.unpack_remote,
    )


class StepMaker:
    """Makes the steps of one build."""

    def __init__(
        self,
        session: Session,
        plan: Plan,
        contexts: ContextFinder,
        compression: Compression,
        restorer: MountRestorer,
        tables: TableFinder | None = None,
    ) -> None:
        """`compression` is that of the image's new layers; `restorer` knows the cache mounts of other machines, `tables` what
        layers hold that are elsewhere.
        """
        self._restorer = restorer
        self._session = session
        self._pool = session.pool
        self._contexts = contexts
        self._nodes = plan.nodes
        self._stacks = LayerStacks(session, bases_of_runs(plan.nodes), tables)
        self._users = ImageUsers(session)
        self._foreign = ForeignRuns(session, plan)
        self._layers = NewLayers(session, compression, nodes_with_layers(plan, session.options))

    @cached_property
    def _wants_sources(self) -> bool:
        """Whether a record needs a source key: it travels, or replaces one from elsewhere that is found by such a key."""
        return self._session.options.travels or self._session.store.records.came_from_elsewhere()

    @cached_property
    def _runs(self) -> RunMaker:
        from pybuild.builder.steps.copied_roots import nodes_below_runs
        from pybuild.builder.steps.run import RunMaker

        return RunMaker(
            self._session, self._stacks, self._users, self._layers, self._restorer, nodes_below_runs(self._nodes)
        )

    async def content(self, node: Node, parent: int | None, source: int | None) -> str:
        """The digest of what a COPY would copy. Nothing is written."""
        assert isinstance(node.step, CopyStep)
        return (await self._copy_job(node, node.step, parent, source)).content()

    async def sources(self, node: Node, source: int | None) -> str:
        """The digest of the sources of a COPY alone. Nothing is written, and the layers below the step are not needed."""
        assert isinstance(node.step, CopyStep)
        return (await self._copy_job(node, node.step, None, source, alone=True)).sources()

    async def entries_to_copy(self, node: Node, parent: int | None, source: int | None) -> list[Entry]:
        """The entries that a COPY would copy, with content digests. Nothing is written."""
        assert isinstance(node.step, CopyStep)
        return (await self._copy_job(node, node.step, parent, source)).entries_to_copy()

    async def identify(self, step: CopyStep) -> None:
        """Ask for the current version of each remote source. Raises BuildError, StoreError, RemoteError, OSError."""
        for _, source in step.remote:
            await self._contexts.remotes.identify(source)

    def identities(self, step: CopyStep) -> list[str | None]:
        """What `identify` found for each remote source; None before that."""
        return [self._contexts.remotes.identity(source) for _, source in step.remote]

    def check_possible(self, nodes: Sequence[Node]) -> None:
        """Raise PlanError if a RUN among these nodes asks for what does not exist in the only isolation that works here."""
        wanted = self._session.options.isolation
        if wanted is Isolation.IN_PLACE or (wanted is Isolation.AUTO and entered()):
            runs = [node for node in nodes if isinstance(node.step, RunStep)]
            if runs:
                try:
                    in_place = self._pool.rung.in_place
                except BuildError as error:
                    raise error.at(runs[0].span) from error
                if in_place:
                    from pybuild.builder.plan.in_place import refuse_in_place

                    refuse_in_place(runs, self._session.options)

    def expect_runs_on(self, snapshots: Iterable[int]) -> None:
        """RUN steps will be made that stand on these snapshots, directly or on other steps that have to be made."""
        self._stacks.expect_runs_on(snapshots)

    def check_claimed(self) -> None:
        """Raise ClaimedTableWrong if files were placed by what a cache says of a layer, and another build has found it wrong.

        Called within the transaction that records a step.
        """
        self._stacks.check_claimed()

    def stop(self) -> None:
        """End all workers and steps of this build."""
        self._pool.stop()
        self.tidy()

    def tidy(self) -> None:
        """Remove the directories of steps that have ended."""
        if "_runs" in vars(self):
            self._runs.tidy()

    async def make(
        self,
        node: Node,
        parent: Parent,
        sources: Sequence[int | None],
        ref: StepRef,
        on_listed: OnListed | None = None,
    ) -> MadeLayer | None:
        """Run one step. Raises BuildError, StoreError, RemoteError, OSError.

        `on_listed` is called with the changeset of a RUN, perhaps before its layer is written. Returns None if the RUN
        ran on a pending layer and another build recorded that layer's step first: it must run again.
        """
        if isinstance(node.step, RunStep):
            self._foreign.prepare(node.platform)
            changeset = await self._runs.make(node, node.step, parent, sources, ref, on_listed)
            return None if changeset is None else MadeLayer(changeset)
        assert not isinstance(parent, PendingLayer)
        match node.step:
            case CopyStep():
                return await self._copy(node, node.step, parent, sources[0] if sources else None, ref)
            case WorkdirStep():
                return await self._workdir(node, node.step, parent)
            case BaseStep():
                raise AssertionError("an image is never made")
            case _:
                assert_never(node.step)

    async def mounted(self, step: RunStep, sources: Sequence[int | None]) -> list[str]:
        """The digests of the files that a RUN mounts from its sources."""
        return await self._runs.mounted(step, sources)

    async def _copy(
        self, node: Node, step: CopyStep, parent: int | None, source: int | None, ref: StepRef
    ) -> MadeLayer:
        on_progress = layer_progress(self._session.observe, ref)
        job = await self._copy_job(node, step, parent, source)
        try:
            written = await self._pool.job(job, on_progress)
        except PrivilegeError:
            # Trees can be read only in a namespace, which this machine refuses. Their tars hold the same files.
            job = await self._copy_job(node, step, parent, source)
            if job.in_namespace or any(layer.blob is None for layer in job.layers):
                raise
            written = await self._pool.job(job, on_progress)
        if written.sockets:
            count = "a socket" if written.sockets == 1 else f"{written.sockets} sockets"
            self._session.observe(Note(f"{count} of the context copied as empty files"))
        return MadeLayer(self._layers.adopt(written, job.output), written.content, written.sources)

    async def _copy_job(
        self, node: Node, step: CopyStep, parent: int | None, source: int | None, *, alone: bool = False
    ) -> CopyFiles:
        """The job of a COPY; with `alone`, one that knows nothing of the layers below."""
        from pybuild.builder.jobs.copy import CopyFiles  # a local import: without a COPY nobody needs it

        below: tuple[LayerPlace, ...] = ()
        if not step.link and not alone:
            reads_users = step.chown is not None and not is_numeric(step.chown)
            below = await (self._stacks.layers(parent) if reads_users else self._stacks.claimed(parent))
        owner = None
        if step.chown is not None and is_numeric(step.chown):
            owner = UserDatabase(b"", b"").owner(step.chown)
        elif step.chown is not None and not alone:
            owner = (await self._users.of(self._stacks.view(below), below)).owner(step.chown)
        request = copy_request(step, owner, int(time.time()))
        context = self._contexts.source(step.context) if step.has_context else None
        fetched = tuple([await self._contexts.remotes.fetched(source, position) for position, source in step.remote])
        layers = await self._stacks.layers(source) if step.from_stage else ()
        spool, output = self._session.store.ingest.new_path(), self._layers.output(node.id)
        for_windows = node.platform.os == "windows"
        return CopyFiles(request, context, layers, below, spool, output, fetched, self._wants_sources, for_windows)

    async def _workdir(self, node: Node, step: WorkdirStep, parent: int | None) -> MadeLayer:
        from pybuild.builder.jobs.job import write_entries

        layers = await (self._stacks.layers(parent) if step.user else self._stacks.claimed(parent))
        view = self._stacks.view(layers)
        uid, gid = await self._workdir_owner(step, view, layers) if step.user else (0, 0)
        try:
            entries = missing_directories(view, step.path, uid, gid, int(time.time()))
        except LinkLoop:
            raise BuildError(f"WORKDIR {step.path}: too many levels of symbolic links in the image") from None
        if node.platform.os == "windows":
            entries = with_hives(entries)
        output = self._layers.output(node.id)
        # Only a few entries without content: not worth a worker.
        return MadeLayer(self._layers.adopt(write_entries(entries, output), output))

    async def _workdir_owner(self, step: WorkdirStep, view: View, layers: Sequence[LayerPlace]) -> tuple[int, int]:
        users = await self._users.of(view, layers)
        if (unknown := users.unknown_in(step.user)) is not None:
            text = f"WORKDIR {step.path}: the image has no {unknown}, so its directories belong to root"
            self._session.observe(Note(text))
        return users.workdir_owner(step.user)
