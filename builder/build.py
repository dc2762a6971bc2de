"""A build from beginning to end: recipe, bases, plan, steps, image, outputs.

pybuild finds every mistake that the text alone shows before it runs anything. The image and its tags become visible
together, after everything that they refer to is sealed. An output appears under its name when it is complete.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import nullcontext
from dataclasses import field, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from pybuild.builder.cache_places import RegistryCache
from pybuild.builder.caches.caches import Caches
from pybuild.builder.errors import ClaimedTableWrong, LayerUnavailable
from pybuild.builder.events import Built, BuiltLayer, Note
from pybuild.builder.limits import check_limits
from pybuild.builder.output.assemble import assemble
from pybuild.builder.output.export import Exporter, ImageOutput, Output, RegistryOutput, check_outputs
from pybuild.builder.plan.epoch import with_epoch
from pybuild.builder.plan.lint import Inspector, report_warnings
from pybuild.builder.plan.no_cache_filter import unknown_stages
from pybuild.builder.plan.parse_cache import StoredParses
from pybuild.builder.plan.planner import plan
from pybuild.builder.plan.resolve import resolve
from pybuild.builder.secrets import BuildSecrets
from pybuild.builder.session import Session
from pybuild.builder.solve.outcomes import OutcomeRecorder
from pybuild.builder.solve.solver import Solver
from pybuild.builder.sources.contexts import Contexts
from pybuild.builder.sources.images import BaseImages
from pybuild.builder.sources.layers import LayerFetcher
from pybuild.builder.steps.layer_forms import ensure_layer
from pybuild.builder.workers.pool import Pool
from pybuild.builder.workers.tasks import gather, run_until_complete
from pybuild.parser import parse, parse_trigger
from pybuild.store.errors import NotFound
from pybuild.store.exporting.publish import nothing
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.media_types import COMPRESSIONS
from pybuild.store.objects.changesets import LayerBlob
from pybuild.store.system.disk_full import require_space
from pybuild.values import frozen
from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pybuild.builder.cache_export.travelling import TravellingCaches
    from pybuild.builder.events import AddedContent, Event
    from pybuild.builder.host.step_cgroups import Cgroups
    from pybuild.builder.limits import StepLimits
    from pybuild.builder.options import BuildOptions
    from pybuild.builder.plan.graph import Plan, PlannedStage
    from pybuild.builder.solve.cache import BuildCache
    from pybuild.builder.solve.node_keys import NodeResult
    from pybuild.builder.steps.make import StepMaker
    from pybuild.parser import Buildfile
    from pybuild.store.formats.reference import Reference
    from pybuild.store.objects.images import StoredImage
    from pybuild.store.store import Store


@frozen
class BuildRequest:
    """What to build, and what to do with the image. Without outputs the image stays in the store."""

    context: str  # as builder/sources/contexts.py reads it
    recipe: str | None  # a path, or `-`; None: the first of RECIPE_NAMES in the context
    options: BuildOptions
    contexts: Mapping[str, str] = field(default_factory=dict)  # by context_name()
    tags: tuple[Reference, ...] = ()
    outputs: tuple[Output, ...] = ()
    id: str = ""  # the store remembers the build under this id; "": it does not


def names_of(request: BuildRequest) -> tuple[Reference, ...]:
    """The names that a build gives its image: those in the registries if it pushes under names of their own."""
    pushed = (o.names for o in request.outputs if isinstance(o, RegistryOutput) and o.names is not None)
    return tuple(dict.fromkeys(chain.from_iterable(pushed))) or request.tags


def build(
    request: BuildRequest,
    store: Store,
    observe: Callable[[Event], None],
    complete: Callable[[], None] = nothing,
) -> StoredImage:
    """Build an image; return it as it was pushed first, or as it is in the store.

    `complete` is called when nothing is missing but the names of the results: from then on the build is not stopped any more.

    It can be removed at once by another process: do not look it up again. Raises PybuildError, OSError; after any of them
    the store is intact.
    """
    options = request.options
    check_outputs(request.outputs, request.tags)
    check_limits(options.limits)
    if options.require_space:
        require_space(store.root, options.require_space, "--require-space")
    with (
        _step_cgroups(options.limits) as cgroups,
        Pool(lambda text: observe(Note(text)), options.isolation) as pool,
        BuildSecrets(options.secrets, options.agents, os.environ) as secrets,
    ):
        session = Session(store, pool, options, observe, secrets, cgroups)
        if store.obstacle is not None:
            observe(Note(f"nothing can be written to the store, only cached steps work: {store.obstacle}"))
        if _will_ask_registries(request, store):
            pool.start_ahead()
        if store.unswept:
            from pybuild.builder.steps.removal import sweep_all

            sweep_all(store, pool)
        images, caches = BaseImages(session), Caches(session)
        contexts = Contexts(session, images, request.context, request.contexts)
        recipe = contexts.open_main(request.recipe)
        buildfile = parse(recipe.data, recipe.path, cache=StoredParses(store))
        try:
            session = replace(session, options=with_epoch(options, buildfile))
            request = replace(request, options=session.options)
            while True:
                planned = _plan(session, buildfile, contexts, images)
                try:
                    return _make_image(request, session, buildfile, planned, contexts, caches, complete)
                except ClaimedTableWrong as error:
                    if store.obstacle is not None:
                        raise  # the steps that were made by it could not be forgotten
                    caches.give_up_tables(str(error))
                except LayerUnavailable as error:
                    if caches.give_up(error):
                        continue  # each time at least one record goes, so this ends
                    if not images.give_up(error.digest):
                        raise
                    observe(Note(f"{error}; the base images are looked up again"))
        except PybuildError as error:
            raise error.at(source=buildfile.source) from error


def _will_ask_registries(request: BuildRequest, store: Store) -> bool:
    """Whether the build pushes, or can find steps in a cache of a registry and in no record of the store."""
    reads = any(isinstance(one.place, RegistryCache) for one in request.options.cache_from)
    pushes = any(isinstance(output, RegistryOutput) for output in request.outputs)
    return pushes or (reads and store.records.are_empty())


def _step_cgroups(limits: StepLimits) -> AbstractContextManager[Cgroups | None]:
    """The cgroups for the steps, if the build limits them. Entering raises BuildError if a limit cannot be enforced."""
    if not limits.controllers:
        return nullcontext()
    from pybuild.builder.host.step_cgroups import Cgroups

    return Cgroups(limits)


def _plan(session: Session, buildfile: Buildfile, contexts: Contexts, images: BaseImages) -> Plan:
    """Resolve and plan the recipe, and report warnings about it."""
    options = session.options
    read_trigger = partial(parse_trigger, cache=StoredParses(session.store))
    resolved = resolve(buildfile, options, images, read_trigger, contexts)
    inspector = Inspector(resolved, options, contexts.source)
    planned = plan(resolved, options, inspector)
    report_warnings(inspector, resolved, options, session.observe)
    for text in unknown_stages(buildfile, options):
        session.observe(Note(text))
    return planned


def _make_image(
    request: BuildRequest,
    session: Session,
    buildfile: Buildfile,
    planned: Plan,
    contexts: Contexts,
    caches: Caches,
    complete: Callable[[], None],
) -> StoredImage:
    """Make what the cache does not have, then the image, its tags and its outputs."""
    store, compression = session.store, _compression(request.outputs)

    def step_maker() -> StepMaker:
        from pybuild.builder.steps.make import StepMaker

        if session.cgroups is None:
            from pybuild.builder.host.cgroupfs import own_cgroups, remove_abandoned

            remove_abandoned(own_cgroups())
        return StepMaker(session, planned, contexts, compression, caches, caches.claimed_tables)

    recorder = OutcomeRecorder(session, request.id, buildfile.source.filename)
    solver = Solver(session, planned, step_maker, recorder, caches)
    try:
        results = solver.solve()
        travelling = _travelling_caches(session, planned, solver.cache, caches)
        writer = _ImageWriter(request, session, planned.image, results, travelling)
        image = writer.store(compression)
        recorder.manifest = str(image.manifest_digest)
    finally:
        recorder.save(planned, solver.cache)
    if request.tags or not request.outputs:
        store.seal()
    session.observe(
        Built(
            str(image.manifest_digest),
            writer.layers(image, planned),
            tuple(tag.familiar for tag in request.tags),
            writer.largest(planned, solver.made) if solver.made else (),
        )
    )
    if travelling is not None:
        travelling.export(compression)
    if not request.outputs:
        complete()
    if request.tags:
        store.images.tag(list(request.tags), image, int(time.time()), recipe=buildfile.source.filename)
    if not request.outputs:
        return image
    exporter = Exporter(
        request.tags,
        store,
        session.pool,
        session.observe,
        all_layers=False,
        tls_verify=session.options.tls_verify,
        push_hint="the image is in the store: pybuild push sends it" if request.tags else "",
        complete=complete,
    )
    wanted = [(output, writer.store(_compression([output]))) for output in request.outputs]
    return exporter.export(wanted) or image


def _travelling_caches(session: Session, planned: Plan, cache: BuildCache, caches: Caches) -> TravellingCaches | None:
    """The caches that this build writes for other machines; None if there are none."""
    if not session.options.cache_to:
        return None
    from pybuild.builder.cache_export.travelling import TravellingCaches

    return TravellingCaches(session, planned, cache, caches)


def _compression(outputs: Sequence[Output]) -> Compression:
    """The compression of new layers: that of the first image output, else gzip."""
    return next(
        (output.wanted for output in outputs if isinstance(output, ImageOutput | RegistryOutput)), Compression.GZIP
    )


class _ImageWriter:
    """Turns the solved plan into images, one for each compression that an output asks for."""

    def __init__(
        self,
        request: BuildRequest,
        session: Session,
        stage: PlannedStage,
        results: Mapping[int, NodeResult],
        caches: TravellingCaches | None,
    ) -> None:
        self._request = request
        self._caches = caches
        self._store = session.store
        self._fetcher = LayerFetcher.of(session)
        self._stage = stage
        self._results = results
        self._snapshot = None if stage.node is None else results[stage.node].snapshot

    def store(self, compression: Compression) -> StoredImage:
        """Make the missing layers, write config and manifest, and store them. Idempotent."""
        options = self._request.options
        created = {node: result.created for node, result in self._results.items()}
        layers = self._layers(compression)
        extra = {} if self._caches is None else self._caches.inline(layers, compression)
        built = assemble(self._stage, layers, created, options, extra)
        scratch = (self._store.ingest.new_path(), self._store.ingest.new_path())
        return self._store.images.add(built.manifest, built.config, self._snapshot, scratch)

    def layers(self, image: StoredImage, planned: Plan) -> tuple[BuiltLayer, ...]:
        """All layers of an image that `store` made, each with the instruction that made it."""
        layers = image.manifest.layers
        made = [planned.nodes[line.node].text for line in self._stage.history if line.node is not None]
        texts = [""] * (len(layers) - len(made)) + made
        return tuple(BuiltLayer(str(layer.digest), layer.size, text) for layer, text in zip(layers, texts, strict=True))

    def largest(self, planned: Plan, made: Set[int]) -> tuple[AddedContent, ...]:
        """The largest things in those layers of the image that this build made. `made`: the nodes that it made."""
        from pybuild.builder.output.added import largest_added  # a local import: a cached build added nothing

        nodes = [line.node for line in self._stage.history if line.node is not None]
        changesets = self._store.snapshots.changesets(self._snapshot)[::-1]
        new = zip(nodes, changesets[len(changesets) - len(nodes) :], strict=True)
        return largest_added(
            self._store, [(changeset, planned.nodes[node].text) for node, changeset in new if node in made]
        )

    def _layers(self, compression: Compression) -> list[LayerBlob]:
        """All layers, the lowest first. Those of the base are the very blobs that were pulled or imported."""
        base = self._stage.base
        layers = [] if base is None else _base_layers(self._store, base)
        changesets = self._store.snapshots.changesets(self._snapshot)[::-1]
        epoch = self._request.options.epoch
        chain = changesets[::-1]
        new = range(len(chain) - len(layers))
        return layers + run_until_complete(
            gather(ensure_layer(self._fetcher, chain, number, epoch, compression) for number in reversed(new))
        )


def _base_layers(store: Store, base: StoredImage) -> list[LayerBlob]:
    layers = []
    for descriptor, diff_id in zip(base.manifest.layers, base.config.diff_ids, strict=True):
        if not store.blobs.has(descriptor.digest) and not store.places.of(descriptor.digest):
            raise NotFound(
                f"layer {descriptor.digest} of the base image is missing",
                hint="pybuild fsck lists everything that is damaged",
            )
        layers.append(LayerBlob(diff_id, descriptor.digest, descriptor.size, COMPRESSIONS[descriptor.media_type]))
    return layers
