"""A build from beginning to end: recipe, bases, plan, steps, image, outputs.

pybuild finds every mistake that the text alone shows before it runs anything. The image and its tags become visible
together, after everything that they refer to is sealed. An output appears under its name when it is complete.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import field, replace
from functools import partial
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING

from pybuild.builder.cache_places import RegistryCache
from pybuild.builder.caches.caches import Caches
from pybuild.builder.errors import ClaimedTableWrong, LayerUnavailable
from pybuild.builder.events import Built, Note
from pybuild.builder.limits import check_limits
from pybuild.builder.output.export import Exporter, ImageOutput, Output, RegistryOutput, check_outputs, with_annotations
from pybuild.builder.output.image_writer import ImageWriter
from pybuild.builder.plan.epoch import with_epoch
from pybuild.builder.plan.graph import BaseStep
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
from pybuild.builder.sources.images import BaseImages, PlatformImages
from pybuild.builder.workers.pool import Pool
from pybuild.parser import parse, parse_trigger
from pybuild.store.exporting.publish import STDOUT, nothing
from pybuild.store.formats.compression import Compression
from pybuild.store.objects.indexes import digest_of
from pybuild.store.system.disk_full import require_space
from pybuild.values import frozen
from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pybuild.builder.cache_export.travelling import TravellingCaches
    from pybuild.builder.events import Event
    from pybuild.builder.gate.rules import ImageRules
    from pybuild.builder.host.step_cgroups import Cgroups
    from pybuild.builder.limits import StepLimits
    from pybuild.builder.options import BuildOptions
    from pybuild.builder.plan.graph import Plan, PlannedStage
    from pybuild.builder.plan.resolve import ImageSource
    from pybuild.builder.solve.cache import BuildCache
    from pybuild.builder.steps.make import StepMaker
    from pybuild.parser import Buildfile
    from pybuild.store.formats.bounded_json import Json
    from pybuild.store.formats.reference import Reference
    from pybuild.store.objects.changesets import LayerBlob
    from pybuild.store.objects.images import StoredImage
    from pybuild.store.objects.indexes import Stored
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
    rules: ImageRules | None = None  # an image that breaks them gets no name and goes nowhere
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
) -> Stored:
    """Build an image, or an index for several platforms; return it as it was pushed first, or as it is in the store.

    `complete` is called when nothing is missing but the names of the results: from then on the build is not stopped any more.

    It can be removed at once by another process: do not look it up again. Raises PybuildError, OSError; after any of them
    the store is intact.
    """
    options = request.options
    check_outputs(
        request.outputs,
        request.tags,
        several=bool(options.platforms),
        platforms=options.all_platforms,
        annotations=options.leveled_annotations,
    )
    check_limits(options.limits)
    if options.require_space:
        require_space(store.root, options.require_space, "--require-space")
    with (
        _step_cgroups(options.limits) as cgroups,
        Pool(lambda text: observe(Note(text)), options.isolation, _own_paths(request), options.snapshots) as pool,
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
        caches = Caches(session)
        session, images, contexts, buildfile = _open(session, request)
        request = replace(request, options=session.options)
        try:
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


def planned_bases(
    request: BuildRequest, store: Store, observe: Callable[[Event], None]
) -> tuple[tuple[StoredImage, ...], BuildOptions]:
    """The images that a build would begin on, looked up and pulled as by it, and its options with the recipe's epoch.

    Raises PybuildError, OSError.
    """
    options = request.options
    with (
        Pool(lambda text: observe(Note(text)), options.isolation) as pool,
        BuildSecrets(options.secrets, options.agents, os.environ) as secrets,
    ):
        session = Session(store, pool, options, observe, secrets)
        session, images, contexts, buildfile = _open(session, request)
        try:
            planned = _plan(session, buildfile, contexts, images)
        except PybuildError as error:
            raise error.at(source=buildfile.source) from error
    found = [node.step.image for node in planned.nodes if isinstance(node.step, BaseStep)]
    found += [stage.base for stage in planned.images if stage.base is not None]
    return tuple({image.manifest_digest: image for image in found}.values()), session.options


def _open(session: Session, request: BuildRequest) -> tuple[Session, BaseImages, Contexts, Buildfile]:
    """Open the contexts and read the recipe. The session that it returns has the epoch of the recipe."""
    images = BaseImages(session)
    contexts = Contexts(session, images, request.context, request.contexts)
    recipe = contexts.open_main(request.recipe)
    buildfile = parse(recipe.data, recipe.path, cache=StoredParses(session.store))
    try:
        options = with_epoch(session.options, buildfile)
    except PybuildError as error:
        raise error.at(source=buildfile.source) from error
    return replace(session, options=options), images, contexts, buildfile


def _own_paths(request: BuildRequest) -> tuple[str, ...]:
    """What the user has here for this build: a RUN in the root of a container must not remove it. Not all of them exist."""
    outputs = [output.destination for output in request.outputs]
    files = [request.recipe or "", *outputs]
    return (request.context, *request.contexts.values(), *(os.path.dirname(path) for path in files if path != STDOUT))


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
    """Resolve and plan the recipe, for each platform, and report warnings about it, each once."""
    options = session.options
    if not options.platforms:
        planned = _plan_one(session, buildfile, contexts, images, session.observe)
    else:
        from pybuild.builder.plan.merge import merged  # a local import: most builds are for one platform

        reported: list[Event] = []

        def observe(event: Event) -> None:
            if event not in reported:
                reported.append(event)
                session.observe(event)

        plans = []
        for platform in options.platforms:
            of_platform = PlatformImages(images, platform)
            one = replace(session, options=replace(options, platform=platform))
            try:
                plans.append(
                    (
                        platform,
                        _plan_one(one, buildfile, contexts.with_images(of_platform, platform), of_platform, observe),
                    )
                )
            except PybuildError as error:
                raise error.at(platform=str(platform)) from error
        planned = merged(plans)
    for text in unknown_stages(buildfile, options):
        session.observe(Note(text))
    return planned


def _plan_one(
    session: Session,
    buildfile: Buildfile,
    contexts: Contexts,
    images: ImageSource,
    observe: Callable[[Event], None],
) -> Plan:
    """The plan for one platform."""
    options = session.options
    read_trigger = partial(parse_trigger, cache=StoredParses(session.store))
    resolved = resolve(buildfile, options, images, read_trigger, contexts)
    inspector = Inspector(resolved, options, contexts.source)
    planned = plan(resolved, options, inspector)
    report_warnings(inspector, resolved, options, observe)
    return planned


def _make_image(
    request: BuildRequest,
    session: Session,
    buildfile: Buildfile,
    planned: Plan,
    contexts: Contexts,
    caches: Caches,
    complete: Callable[[], None],
) -> Stored:
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
        writer = ImageWriter(session, planned, results, _no_more if travelling is None else travelling.inline)
        image = writer.store(compression)
        recorder.manifest = str(digest_of(image))
    finally:
        recorder.save(planned, solver.cache)
    if request.tags or not request.outputs:
        store.seal()
    if request.rules is not None:
        from pybuild.builder.gate.of_build import hold_to_rules

        hold_to_rules(session, image, request.rules)
    session.observe(
        Built(
            str(digest_of(image)),
            writer.layers(image),
            tuple(tag.familiar for tag in request.tags),
            writer.largest(solver.made) if solver.made else (),
        )
    )
    if travelling is not None:
        travelling.export(compression)
    if not request.outputs:
        complete()
    if request.tags:
        store.indexes.give_names(list(request.tags), image, int(time.time()), recipe=buildfile.source.filename)
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
    outputs = [with_annotations(output, session.options.leveled_annotations) for output in request.outputs]
    wanted = [(output, writer.store(_compression([output]))) for output in outputs]
    return exporter.export(wanted) or image


def _no_more(stage: PlannedStage, layers: Sequence[LayerBlob], compression: Compression) -> Mapping[str, Json]:
    return MappingProxyType({})


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
