"""Making what a step makes: a changeset with its toc and tar, and for a RUN its tree.

Each function takes the snapshots that the step reads, has workers do the work in the ingest directory, and records
what came of it in the store. Nothing is visible before it is whole; a step that fails leaves nothing.
"""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, assert_never

from pybuild.builder.errors import BuildError, PrivilegeError
from pybuild.builder.events import Note
from pybuild.builder.files.copy import CopyRequest
from pybuild.builder.jobs.copy import CopyFiles
from pybuild.builder.jobs.job import write_entries
from pybuild.builder.plan.graph import BaseStep, CopyStep, RunStep, WorkdirStep
from pybuild.builder.plan.platforms import check_runnable
from pybuild.builder.steps.image_users import Accounts
from pybuild.builder.steps.layer_stack import Stacks
from pybuild.builder.steps.new_layers import NewLayers
from pybuild.builder.steps.pending_layer import Ahead
from pybuild.builder.steps.workdir import missing_directories
from pybuild.store.layers.view import LinkLoop
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pybuild.builder.events import Event, StepRef
    from pybuild.builder.files.context_source import ContextSource
    from pybuild.builder.host.step_cgroups import Cgroups
    from pybuild.builder.options import BuildOptions
    from pybuild.builder.plan.graph import Node
    from pybuild.builder.sources.downloads import Remotes
    from pybuild.builder.steps.pending_layer import Listed, Parent
    from pybuild.builder.steps.run import Runs
    from pybuild.builder.steps.secrets import Handed
    from pybuild.builder.workers.pool import Pool
    from pybuild.store.formats.compression import Compression
    from pybuild.store.formats.toc import Entry
    from pybuild.store.store import Store


@frozen
class Made:
    """What a step made; `content` is the digest of what a COPY copied."""

    changeset: str
    content: str = ""


class ContextSources(Protocol):
    """Where the files of contexts are."""

    def source(self, name: str) -> ContextSource: ...

    @property
    def remotes(self) -> Remotes:
        """The sources that are elsewhere; not to be asked for by a build that has none."""
        ...


class Steps:
    """The making of steps, for one build."""

    def __init__(
        self,
        store: Store,
        pool: Pool,
        options: BuildOptions,
        contexts: ContextSources,
        compression: Compression,
        observe: Callable[[Event], None],
        handed: Handed,
        run_on: frozenset[int],
        of_image: frozenset[int],
        cgroups: Cgroups | None,
    ) -> None:
        """`run_on` are the snapshots of images that steps run on, as far as that is known before.

        `of_image` are the nodes whose layers the image will have.
        """
        self._store = store
        self._pool = pool
        self._options = options
        self._contexts = contexts
        self._observe = observe
        self._handed = handed
        self._cgroups = cgroups
        self._stacks = Stacks(store, pool, run_on)
        self._accounts = Accounts(store, pool)
        self._layers = NewLayers(store, compression, options.epoch, of_image)

    @cached_property
    def _runs(self) -> Runs:
        from pybuild.builder.steps.run import Runs

        return Runs(
            self._store, self._pool, self._options, self._observe, self._handed, self._cgroups, self._stacks,
            self._accounts, self._layers,
        )  # fmt: skip

    async def content(self, node: Node, parent: int | None, source: int | None) -> str:
        """The digest of what a COPY would copy, found without writing anything."""
        assert isinstance(node.step, CopyStep)
        return (await self._copy_job(node, node.step, parent, source)).content()

    async def rows(self, node: Node, parent: int | None, source: int | None) -> list[Entry]:
        """The rows of all that a COPY would copy, with the digests of their content, without writing anything."""
        assert isinstance(node.step, CopyStep)
        return (await self._copy_job(node, node.step, parent, source)).rows()

    async def identify(self, step: CopyStep) -> None:
        """Find out what the sources of a step that are elsewhere are at the moment. Raises BuildError."""
        for _, source in step.remote:
            await self._contexts.remotes.identify(source)

    def identities(self, step: CopyStep) -> list[str | None]:
        """What `identify` has found; None for what it has not."""
        return [self._contexts.remotes.identity(source) for _, source in step.remote]

    def stop(self) -> None:
        """End whatever is running for this build."""
        self._pool.stop()
        self.tidy()

    def tidy(self) -> None:
        """Remove what the steps that have ended needed while they ran."""
        if "_runs" in vars(self):
            self._runs.tidy()

    async def make(
        self, node: Node, parent: Parent, sources: Sequence[int | None], ref: StepRef, listed: Listed | None = None
    ) -> Made | None:
        """Run one step. Raises BuildError, StoreError.

        `listed` is told what a RUN has left, perhaps before the layer is written. None where a RUN stood on such a
        step, and another build was first to record that one.
        """
        if isinstance(node.step, RunStep):
            check_runnable(node.platform)
            changeset = await self._runs.run(node, node.step, parent, sources, ref, listed)
            return None if changeset is None else Made(changeset)
        assert not isinstance(parent, Ahead)
        match node.step:
            case CopyStep():
                return await self._copy(node, node.step, parent, sources[0] if sources else None)
            case WorkdirStep():
                return await self._workdir(node, node.step, parent)
            case BaseStep():
                raise AssertionError("an image is never made")
            case _:
                assert_never(node.step)

    async def mounted(self, step: RunStep, sources: Sequence[int | None]) -> list[str]:
        """The digests of the files that a RUN has mounted."""
        return await self._runs.mounted(step, sources)

    async def _copy(self, node: Node, step: CopyStep, parent: int | None, source: int | None) -> Made:
        job = await self._copy_job(node, step, parent, source)
        try:
            written = await self._pool.job(job)
        except PrivilegeError:
            # The trees of an earlier build lie in a namespace that cannot be had here and now: the tars hold the same.
            job = await self._copy_job(node, step, parent, source)
            if job.in_namespace or any(layer.blob is None for layer in job.layers):
                raise
            written = await self._pool.job(job)
        if written.sockets:
            count = "a socket" if written.sockets == 1 else f"{written.sockets} sockets"
            self._observe(Note(f"{count} of the context copied as empty files"))
        return Made(self._layers.adopt(written, job.output), written.content)

    async def _copy_job(self, node: Node, step: CopyStep, parent: int | None, source: int | None) -> CopyFiles:
        below = () if step.link else await self._stacks.layers(parent)
        owner = None
        if step.chown is not None:
            owner = (await self._accounts.of(self._stacks.view(below), below)).owner(step.chown)
        request = CopyRequest(
            step.sources, step.dest, owner, step.mode, step.exclude, step.parents, step.inline, int(time.time()),
            step.unpack, step.unpack_remote,
        )  # fmt: skip
        context = self._contexts.source(step.context) if step.has_context else None
        fetched = tuple([await self._contexts.remotes.fetched(source, position) for position, source in step.remote])
        layers = await self._stacks.layers(source) if step.from_stage else ()
        spool, output = self._store.ingest.new_path(), self._layers.output(node.id)
        return CopyFiles(request, context, layers, below, spool, output, fetched)

    async def _workdir(self, node: Node, step: WorkdirStep, parent: int | None) -> Made:
        layers = await self._stacks.layers(parent)
        view = self._stacks.view(layers)
        uid, gid = (await self._accounts.of(view, layers)).workdir_owner(step.user) if step.user else (0, 0)
        try:
            entries = missing_directories(view, step.path, uid, gid, int(time.time()))
        except LinkLoop:
            raise BuildError(f"WORKDIR {step.path}: too many levels of symbolic links in the image") from None
        output = self._layers.output(node.id)
        # A few rows without content: not worth a worker.
        return Made(self._layers.adopt(write_entries(entries, output), output))
