"""`pybuild build --check`: reports the warnings about a recipe, and all its mistakes, without running any of it.

It checks all stages, or those that --target needs. Findings and exit status never depend on what the store holds: with
--pull the configs of the bases come from the registries, and without it everything is judged that holds whatever the bases
are. What the bases of the store would add or take away is told in notes. No layer is fetched, no namespace entered.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from pybuild.builder.events import Note
from pybuild.builder.options import Pull
from pybuild.builder.plan.lint import Inspector, warnings_of
from pybuild.builder.plan.parse_cache import StoredParses
from pybuild.builder.plan.planner import plan
from pybuild.builder.plan.resolve import ImageSource, resolve
from pybuild.builder.secrets import BuildSecrets
from pybuild.builder.session import Session
from pybuild.builder.sources.contexts import Contexts
from pybuild.builder.sources.images import stored_image
from pybuild.builder.workers.pool import Pool
from pybuild.parser import ParseError, parse, parse_trigger
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.oci_config import ExecConfig, ImageConfig
from pybuild.store.formats.oci_manifest import Descriptor, Manifest
from pybuild.store.objects.images import StoredImage
from pybuild.values import frozen
from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pybuild.builder.build import BuildRequest
    from pybuild.builder.errors import PlanError
    from pybuild.builder.events import Event
    from pybuild.builder.plan.resolve import Resolved
    from pybuild.builder.sources.recipe import Recipe
    from pybuild.parser import Buildfile, ParseWarning, Source
    from pybuild.store.formats.platform import Platform
    from pybuild.store.formats.reference import Reference
    from pybuild.store.store import Store


@frozen
class CheckReport:
    """The result of a check. Mistakes and warnings are in the order of the recipe."""

    source: Source
    mistakes: tuple[PybuildError, ...]  # each with its place, if it has one
    warnings: tuple[ParseWarning, ...] = ()
    notes: tuple[str, ...] = ()  # what was not judged, and why

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found. What was not judged does not count."""
        return not self.warnings and not self.mistakes


def check(request: BuildRequest, store: Store, observe: Callable[[Event], None]) -> CheckReport:
    """Check a recipe. Raises PybuildError if the recipe or the context cannot be read, OSError."""
    with Pool(lambda text: observe(Note(text))) as pool, BuildSecrets(agents=request.options.agents) as secrets:
        session = Session(store, pool, request.options, observe, secrets)
        contexts = Contexts(session, NoBases(session), request.context, request.contexts)
        recipe = contexts.open_main(request.recipe)
        source, buildfile, mistakes = _parse(recipe, store)
        if buildfile is None:
            return CheckReport(source, mistakes)
        try:
            found = _together([_check(buildfile, one, contexts) for one in _by_platform(session)])
        except PybuildError as error:
            raise error.at(source=buildfile.source) from error
        together = sorted([*mistakes, *found.mistakes], key=_place)
        return replace(found, mistakes=tuple(together))


def _parse(recipe: Recipe, store: Store) -> tuple[Source, Buildfile | None, tuple[PybuildError, ...]]:
    """The text, the recipe without the lines that cannot be read (None: nothing is left), and the mistakes of these."""
    try:
        buildfile = parse(recipe.data, recipe.path, cache=StoredParses(store))
        return buildfile.source, buildfile, ()
    except ParseError:
        from pybuild.parser.mistakes import salvage

        left = salvage(recipe.data, recipe.path)
        return left.source, left.buildfile, tuple(error.at(source=left.source) for error in left.mistakes)


def _place(error: PybuildError) -> tuple[int, int]:
    return (error.span.line, error.span.column) if error.span is not None else (0, 0)


def _by_platform(session: Session) -> Iterator[Session]:
    """The session with the options for each platform of the build."""
    for platform in session.options.all_platforms:
        yield replace(session, options=replace(session.options, platform=platform))


def _together(reports: Sequence[CheckReport]) -> CheckReport:
    """The reports for all platforms as one, with everything once."""
    first = reports[0]
    mistakes = {(_place(error), str(error)): error for report in reports for error in report.mistakes}
    warnings = {(one.rule, one.message, one.span): one for report in reports for one in report.warnings}
    notes = dict.fromkeys(note for report in reports for note in report.notes)
    return replace(first, mistakes=tuple(mistakes.values()), warnings=tuple(warnings.values()), notes=tuple(notes))


def _check(buildfile: Buildfile, session: Session, contexts: Contexts) -> CheckReport:
    """The report, without notes about what the bases of the store would change."""
    platform = session.options.platform
    images = RegistryBases(session) if session.options.pull is Pull.ALWAYS else NoBases(session)
    found = _judge(buildfile, session, images, contexts.with_images(images, platform))
    if isinstance(images, RegistryBases):
        return found
    stored = StoredBases(session)
    with_stored = _judge(buildfile, session, stored, contexts.with_images(stored, platform))
    notes = [f"{name} is not in the store, so its environment is not known" for name in stored.missing]
    return replace(found, notes=(*notes, *with_stored.notes, *_differences(found, with_stored)))


def _judge(buildfile: Buildfile, session: Session, images: Bases, contexts: Contexts) -> CheckReport:
    """What is found with these bases; the notes name the lines that are not judged."""
    options = session.options
    mistakes: list[PlanError] = []
    read_trigger = partial(parse_trigger, cache=StoredParses(session.store))
    resolved = resolve(
        buildfile, options, images, read_trigger, contexts, all_stages=options.target is None, on_error=mistakes.append
    )
    inspector = Inspector(resolved, options, contexts.source, images.unknown_stages(resolved))
    plan(resolved, options, inspector, inspector.take_mistake)
    warnings, _ = warnings_of(inspector, resolved, options)
    mistakes += inspector.mistakes
    notes = []
    for span, names in inspector.unjudged:
        values = ", ".join(f"${name}" for name in names)
        notes.append(f"line {span.line} is not judged, because the value of {values} is not known")
    source = buildfile.source
    return CheckReport(source, tuple(error.at(source=source) for error in mistakes), tuple(warnings), tuple(notes))


def _differences(found: CheckReport, with_stored: CheckReport) -> Iterator[str]:
    """Notes about what is found only with the bases of the store, or only without them."""
    here, there = _findings(found), _findings(with_stored)
    if here == there:
        return
    yield "what depends on the bases does not count; --pull judges it with the bases of the registries"
    for line, text in sorted(there - here):
        yield f"line {line}, found with the bases of the store: {text}"
    for line, text in sorted(here - there):
        yield f"line {line}, not found with the bases of the store: {text}"


def _findings(report: CheckReport) -> set[tuple[int, str]]:
    """The findings of a report, each with its line."""
    mistakes = {(_place(error)[0], str(error)) for error in report.mistakes}
    return mistakes | {(found.span.line, f"{found.rule}: {found.message}") for found in report.warnings}


class Bases(ImageSource, Protocol):
    """The images that a check looks at."""

    def unknown_stages(self, resolved: Resolved) -> set[int]:
        """The indexes of the stages whose base is not known, or whose FROM is wrong."""
        ...


class NoBases:
    """Knows no image. A placeholder with an empty config stands for each."""

    def __init__(self, session: Session) -> None:
        self._options = session.options
        self._placeholders: list[StoredImage] = []

    def image(self, reference: Reference, platform: Platform | None = None) -> StoredImage:
        self._placeholders.append(_placeholder(reference, platform or self._options.platform))
        return self._placeholders[-1]

    def unknown_stages(self, resolved: Resolved) -> set[int]:
        missing = {id(image) for image in self._placeholders}
        return {index for index, stage in resolved.stages.items() if not stage.is_known or id(stage.image) in missing}


class StoredBases(NoBases):
    """The images of the store; placeholders for those that it lacks."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._store = session.store
        self.missing: dict[str, None] = {}  # names, in the order of the requests

    def image(self, reference: Reference, platform: Platform | None = None) -> StoredImage:
        wanted = platform or self._options.platform
        found = stored_image(self._store, reference, wanted, strict=platform is not None or self._options.is_foreign)
        if found is not None:
            return found
        self.missing[reference.familiar] = None
        return super().image(reference, platform)


class RegistryBases:
    """The images of the registries, without their layers."""

    def __init__(self, session: Session) -> None:
        self._store = session.store
        self._pool = session.pool
        self._options = session.options
        self._fetched: dict[tuple[Reference, Platform], StoredImage] = {}

    def image(self, reference: Reference, platform: Platform | None = None) -> StoredImage:
        wanted = platform or self._options.platform
        key = reference.with_default_tag(), wanted
        if key not in self._fetched:
            from pybuild.builder.sources.pull import fetch_config
            from pybuild.builder.sources.registry_access import registry_access

            access = registry_access(os.environ, self._store.ingest, tls_verify=self._options.tls_verify)
            self._fetched[key] = fetch_config(self._store, self._pool, reference, wanted, access)
        return self._fetched[key]

    def unknown_stages(self, resolved: Resolved) -> set[int]:
        return {index for index, stage in resolved.stages.items() if not stage.is_known}


def _placeholder(reference: Reference, platform: Platform) -> StoredImage:
    digest = Digest.of(str(reference).encode())
    config = ImageConfig(platform.architecture, platform.os, platform.variant, None, "", ExecConfig(), (), ())
    return StoredImage(digest, Manifest(Descriptor(MediaType.OCI_CONFIG, digest, 0), ()), config, None, digest)
