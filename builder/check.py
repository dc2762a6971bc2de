"""`pybuild build --check`: everything that can be said about a recipe without running anything of it.

All stages are looked at, needed or not. Base images are those of the store: nothing is fetched, no namespace entered.
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
    from pybuild.builder.options import BuildOptions
    from pybuild.builder.plan.resolve import Resolved
    from pybuild.parser import ParseWarning
    from pybuild.store.formats.platform import Platform
    from pybuild.store.formats.reference import Reference
    from pybuild.store.store import Store


def check(request: BuildRequest, store: Store, observe: Callable[[Event], None]) -> int:
    """Tell of all warnings; return how many there are. Raises ParseError, BuildError and StoreError for mistakes."""
    images = _StoredImages(store, request.options)
    with Pool() as pool:
        agent = next((agent.path for agent in request.options.agents if agent.id == "default"), None)
        contexts = Contexts(request.context, request.contexts, store, pool, images, agent=agent)
        recipe = contexts.open_main(request.recipe)
        cache = StoredParses(store)
        buildfile = parse(recipe.data, recipe.path, cache=cache)
        read_trigger = partial(parse_trigger, cache=cache)
        try:
            resolved = resolve(buildfile, request.options, images, read_trigger, contexts, all_stages=True)
            warnings = _inspect(resolved, images, contexts.source("").ignore, request.options, observe)
        except PybuildError as error:
            raise error.at(source=buildfile.source) from error
    for warning in warnings:
        observe(CheckWarning(warning.rule, warning.message, buildfile.source, warning.span))
    return len(warnings)


def _inspect(
    resolved: Resolved,
    images: _StoredImages,
    ignored: str | None,
    options: BuildOptions,
    observe: Callable[[Event], None],
) -> Sequence[ParseWarning]:
    unknown = {index for index, stage in resolved.stages.items() if stage.image in images.made_up}
    for name in images.missing:
        observe(Note(f"{name} is not in the store: what its environment holds is not known"))
    inspector = Inspector(resolved, ignored, unknown)
    try:
        plan(resolved, options, inspector)
    except PlanError as error:
        if not unknown:
            raise
        line = f"line {error.span.line}" if error.span is not None else "the rest"
        observe(Note(f"{line} cannot be judged without {'it' if len(unknown) == 1 else 'them'}: {error}"))
    return warnings_of(inspector, resolved, options)[0]


class _StoredImages:
    """The images of the store; in the place of others stands one of which nothing is known."""

    def __init__(self, store: Store, options: BuildOptions) -> None:
        self._store = store
        self._options = options
        self.missing: dict[str, None] = {}
        self.made_up: list[StoredImage] = []

    def image(self, reference: Reference, platform: Platform | None = None) -> StoredImage:
        """The image of that name."""
        wanted = platform or self._options.platform
        found = stored_image(self._store, reference, wanted, strict=platform is not None or self._options.is_foreign)
        if found is not None:
            return found
        self.missing[reference.familiar] = None
        self.made_up.append(self._made_up(reference, wanted))
        return self.made_up[-1]

    def _made_up(self, reference: Reference, platform: Platform) -> StoredImage:
        digest = Digest.of(str(reference).encode())
        config = ImageConfig(platform.architecture, platform.os, platform.variant, None, "", ExecConfig(), (), ())
        return StoredImage(digest, Manifest(Descriptor(MediaType.OCI_CONFIG, digest, 0), ()), config, None)
