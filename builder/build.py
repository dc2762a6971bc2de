"""A build from beginning to end: recipe, bases, plan, steps, image, outputs.

Every mistake that the text alone shows is found before anything runs. The image and its tags become visible together,
after all that they name is sealed; an output appears under its name when it is whole.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING

from pybuild.builder.events import Built, BuiltLayer, Note
from pybuild.builder.limits import check_limits
from pybuild.builder.output.assemble import assemble
from pybuild.builder.output.export import ImageOutput, Output, check_outputs, export
from pybuild.builder.plan.lint import Inspector, report_warnings
from pybuild.builder.plan.no_cache_filter import unknown_stages
from pybuild.builder.plan.parse_cache import StoredParses
from pybuild.builder.plan.planner import plan
from pybuild.builder.plan.resolve import resolve
from pybuild.builder.solve.outcomes import Journal
from pybuild.builder.solve.solver import Solver
from pybuild.builder.sources.contexts import Contexts, keeps_git_dir
from pybuild.builder.sources.images import BaseImages
from pybuild.builder.steps.layer_forms import ensure_tar
from pybuild.builder.steps.secrets import Handed
from pybuild.builder.workers.pool import Pool
from pybuild.builder.workers.tasks import gather, run_until_complete
from pybuild.parser import parse, parse_trigger
from pybuild.store.errors import NotFound
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.media_types import COMPRESSIONS
from pybuild.store.objects.changesets import LayerBlob
from pybuild.values import frozen
from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pybuild.builder.events import Event
    from pybuild.builder.host.step_cgroups import Cgroups
    from pybuild.builder.limits import StepLimits
    from pybuild.builder.options import BuildOptions
    from pybuild.builder.plan.graph import Plan, PlannedStage
    from pybuild.builder.solve.cache import Result
    from pybuild.builder.steps.make import Steps
    from pybuild.parser import Buildfile
    from pybuild.store.formats.digest import Digest
    from pybuild.store.formats.reference import Reference
    from pybuild.store.objects.images import StoredImage
    from pybuild.store.store import Store


@frozen
class BuildRequest:
    """What to build and what to do with it. Without outputs the image is kept in the store, and only there."""

    context: str  # as builder/sources/contexts.py reads it
    recipe: str | None  # a path, or `-`; None: the first of RECIPE_NAMES in the context
    options: BuildOptions
    contexts: Mapping[str, str] = field(default_factory=dict)  # by context_name()
    tags: tuple[Reference, ...] = ()
    outputs: tuple[Output, ...] = ()
    id: str = ""  # under which the store remembers the build; it does not without one


@frozen
class BuildResult:
    """What came of it."""

    manifest: Digest


def build(request: BuildRequest, store: Store, observe: Callable[[Event], None]) -> BuildResult:
    """Build. Raises ParseError, BuildError, StoreError, OSError; after any of them the store is whole."""
    check_outputs(request.outputs)
    check_limits(request.options.limits)
    given = request.options
    with _limited(given.limits) as cgroups, Pool() as pool, Handed(given.secrets, given.agents, os.environ) as handed:
        if store.unswept:
            from pybuild.builder.steps.removal import sweep_all

            sweep_all(store, pool)
        images = BaseImages(store, pool, request.options, observe)
        contexts = Contexts(
            request.context,
            request.contexts,
            store,
            pool,
            images,
            agent=handed.agent("default"),
            secret=handed.read,
            keep_git_dir=keeps_git_dir(given.build_args),
        )
        recipe = contexts.open_main(request.recipe)
        buildfile = parse(recipe.data, recipe.path, cache=StoredParses(store))
        try:
            return _build(request, buildfile, contexts, images, store, pool, handed, cgroups, observe)
        except PybuildError as error:
            raise error.at(source=buildfile.source) from error


def _limited(limits: StepLimits) -> AbstractContextManager[Cgroups | None]:
    """The cgroups of the steps, where they are needed. Raises BuildError on entering where a limit cannot be given."""
    if not limits.controllers:
        return nullcontext()
    from pybuild.builder.host.step_cgroups import Cgroups

    return Cgroups(limits)


def _build(
    request: BuildRequest,
    buildfile: Buildfile,
    contexts: Contexts,
    images: BaseImages,
    store: Store,
    pool: Pool,
    handed: Handed,
    cgroups: Cgroups | None,
    observe: Callable[[Event], None],
) -> BuildResult:
    compression = _compression(request.outputs)
    read_trigger = partial(parse_trigger, cache=StoredParses(store))
    resolved = resolve(buildfile, request.options, images, read_trigger, contexts)
    inspector = Inspector(resolved, contexts.source("").ignore)
    planned = plan(resolved, request.options, inspector)
    report_warnings(inspector, resolved, request.options, observe)
    for text in unknown_stages(buildfile, request.options):
        observe(Note(text))

    def steps() -> Steps:
        from pybuild.builder.steps.layer_stack import run_on
        from pybuild.builder.steps.make import Steps
        from pybuild.builder.steps.new_layers import of_image

        if cgroups is None:
            from pybuild.builder.host.cgroupfs import own_cgroups, remove_abandoned

            remove_abandoned(own_cgroups())
        bases, wanted = run_on(planned.nodes), of_image(planned)
        return Steps(store, pool, request.options, contexts, compression, observe, handed, bases, wanted, cgroups)

    journal = Journal(request.id, buildfile.source.filename, request.options.target or "", store, observe)
    solver = Solver(planned, request.options, store, steps, journal, lambda: pool.tree_map)
    try:
        finish = _Finish(request, store, pool, planned.image, solver.solve())
        digest = finish.store_image(compression)
        journal.manifest = str(digest)
    finally:
        journal.keep(planned, solver.cache)
    if request.tags or not request.outputs:
        store.seal()
    observe(Built(str(digest), finish.layers(digest, planned)))
    if request.tags:
        store.images.tag(list(request.tags), digest, int(time.time()), recipe=buildfile.source.filename)
    for output in request.outputs:
        image = store.images.get(finish.store_image(_compression([output])))
        export(output, image, request.tags, store, pool, observe, all_layers=False)
    return BuildResult(digest)


def _compression(outputs: Sequence[Output]) -> Compression:
    """The compression of new layers, for these outputs."""
    return next((output.wanted for output in outputs if isinstance(output, ImageOutput)), Compression.GZIP)


class _Finish:
    """From the solved plan to images, one for each compression that an output asks for."""

    def __init__(
        self, request: BuildRequest, store: Store, pool: Pool, stage: PlannedStage, results: Mapping[int, Result]
    ) -> None:
        self._request = request
        self._store = store
        self._pool = pool
        self._stage = stage
        self._results = results
        self._snapshot = None if stage.node is None else results[stage.node].snapshot

    def store_image(self, compression: Compression) -> Digest:
        """Make the layers that are missing, write config and manifest, store them. Idempotent."""
        options = self._request.options
        created = {node: result.created for node, result in self._results.items()}
        built = assemble(self._stage, self._layers(compression), created, options)
        scratch = (self._store.ingest.new_path(), self._store.ingest.new_path())
        return self._store.images.add(built.manifest, built.config, self._snapshot, scratch)

    def layers(self, digest: Digest, planned: Plan) -> tuple[BuiltLayer, ...]:
        """All layers of an image that `store_image` made, with what made them."""
        layers = self._store.images.get(digest).manifest.layers
        made = [planned.nodes[line.node].text for line in self._stage.history if line.node is not None]
        texts = [""] * (len(layers) - len(made)) + made
        return tuple(BuiltLayer(str(layer.digest), layer.size, text) for layer, text in zip(layers, texts, strict=True))

    def _layers(self, compression: Compression) -> list[LayerBlob]:
        """All layers, lowest first. Those of the base stay the blobs that came in."""
        base = self._stage.base
        layers = [] if base is None else _base_layers(self._store, base)
        changesets = self._store.snapshots.changesets(self._snapshot)[::-1]
        epoch = self._request.options.epoch
        new = changesets[len(layers) :]
        return layers + run_until_complete(
            gather(ensure_tar(self._store, self._pool, c, epoch, compression) for c in new)
        )


def _base_layers(store: Store, base: StoredImage) -> list[LayerBlob]:
    layers = []
    for descriptor, diff_id in zip(base.manifest.layers, base.config.diff_ids, strict=True):
        if not store.blobs.has(descriptor.digest):
            raise NotFound(
                f"layer {descriptor.digest} of the base image is missing",
                hint="pybuild fsck tells what else is damaged",
            )
        layers.append(LayerBlob(diff_id, descriptor.digest, descriptor.size, COMPRESSIONS[descriptor.media_type]))
    return layers
