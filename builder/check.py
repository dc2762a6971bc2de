"""`pybuild build --check`: reports the warnings about a recipe without running any of it.

It checks all stages, needed or not. Base images come from the store only: no image is fetched. No namespace is entered.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pybuild.builder.errors import PlanError
from pybuild.builder.events import CheckWarning, Note
from pybuild.builder.plan.lint import Inspector, warnings_of
from pybuild.builder.plan.parse_cache import StoredParses
from pybuild.builder.plan.planner import plan
from pybuild.builder.plan.resolve import resolve
from pybuild.builder.secrets import BuildSecrets
from pybuild.builder.session import Session
from pybuild.builder.sources.contexts import Contexts
from pybuild.builder.sources.images import stored_image
from pybuild.builder.workers.pool import Pool
from pybuild.parser import parse, parse_trigger
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.oci_config import ExecConfig, ImageConfig
from pybuild.store.formats.oci_manifest import Descriptor, Manifest
from pybuild.store.objects.images import StoredImage
from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pybuild.builder.build import BuildRequest
    from pybuild.builder.events import Event
    from pybuild.builder.plan.resolve import Resolved
    from pybuild.parser import ParseWarning
    from pybuild.store.formats.platform import Platform
    from pybuild.store.formats.reference import Reference
    from pybuild.store.store import Store


def check(request: BuildRequest, store: Store, observe: Callable[[Event], None]) -> int:
    """Report all warnings about a recipe; return their number. Raises PybuildError for mistakes, OSError."""
    with Pool() as pool, BuildSecrets(agents=request.options.agents) as secrets:
        session = Session(store, pool, request.options, observe, secrets)
        images = _StoredImages(session)
        contexts = Contexts(session, images, request.context, request.contexts)
        recipe = contexts.open_main(request.recipe)
        cache = StoredParses(store)
        buildfile = parse(recipe.data, recipe.path, cache=cache)
        read_trigger = partial(parse_trigger, cache=cache)
        try:
            resolved = resolve(buildfile, request.options, images, read_trigger, contexts, all_stages=True)
            warnings = _inspect(session, resolved, images, contexts.source("").ignore)
        except PybuildError as error:
            raise error.at(source=buildfile.source) from error
    for warning in warnings:
        observe(CheckWarning(warning.rule, warning.message, buildfile.source, warning.span))
    return len(warnings)


def _inspect(
    session: Session, resolved: Resolved, images: _StoredImages, ignored: str | None
) -> Sequence[ParseWarning]:
    unknown = {index for index, stage in resolved.stages.items() if stage.image in images.placeholders}
    for name in images.missing:
        session.observe(Note(f"{name} is not in the store, so its environment is not known"))
    inspector = Inspector(resolved, ignored, unknown)
    try:
        plan(resolved, session.options, inspector)
    except PlanError as error:
        if not unknown:
            raise
        line = f"line {error.span.line}" if error.span is not None else "the rest"
        images_word = "that image" if len(unknown) == 1 else "those images"
        session.observe(Note(f"{line} cannot be checked without {images_word}: {error}"))
    return warnings_of(inspector, resolved, session.options)[0]


class _StoredImages:
    """The images of the store. A placeholder with an empty config stands for a missing one."""

    def __init__(self, session: Session) -> None:
        self._store = session.store
        self._options = session.options
        self.missing: dict[str, None] = {}  # names, in the order of the requests
        self.placeholders: list[StoredImage] = []

    def image(self, reference: Reference, platform: Platform | None = None) -> StoredImage:
        """The image of that name, or a placeholder for it."""
        wanted = platform or self._options.platform
        found = stored_image(self._store, reference, wanted, strict=platform is not None or self._options.is_foreign)
        if found is not None:
            return found
        self.missing[reference.familiar] = None
        self.placeholders.append(self._placeholder(reference, wanted))
        return self.placeholders[-1]

    def _placeholder(self, reference: Reference, platform: Platform) -> StoredImage:
        digest = Digest.of(str(reference).encode())
        config = ImageConfig(platform.architecture, platform.os, platform.variant, None, "", ExecConfig(), (), ())
        return StoredImage(digest, Manifest(Descriptor(MediaType.OCI_CONFIG, digest, 0), ()), config, None)
