"""Building a recipe twice, each time in an empty store that knows nothing but the base images.

The stores are directories in the ingest directory of the user's store: on a file system where steps can run, and removed by
the next process if this one is killed.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.builder.build import build, planned_bases
from pybuild.builder.errors import BuildError
from pybuild.builder.events import Note
from pybuild.builder.gate.judge import RulesBroken
from pybuild.builder.options import Pull
from pybuild.builder.output.export import Exporter, Format, ImageOutput
from pybuild.builder.reproduce.compare import MOST, ChangedPath, compare
from pybuild.builder.steps.removal import remove
from pybuild.builder.workers.pool import Pool
from pybuild.store.formats.reference import Reference
from pybuild.store.importing.archive import import_archive
from pybuild.store.maintenance.reset import reset
from pybuild.store.objects.indexes import digest_of, images_of
from pybuild.store.store import Store
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pybuild.builder.build import BuildRequest
    from pybuild.builder.events import Event
    from pybuild.store.objects.images import StoredImage

_APART = 2.0  # seconds between the beginnings: a step that writes the time must not do it in the same second twice


@frozen
class Reproduction:
    """What two builds gave: two digests, and the first differences if they are not equal."""

    digests: tuple[str, str]
    differences: tuple[ChangedPath, ...]
    more: bool  # there are more differences than those


def reproduce(request: BuildRequest, store: Store, observe: Callable[[Event], None]) -> Reproduction:
    """Build twice and compare. Raises PybuildError, OSError, as `build` does; nothing is left of either build."""
    if store.obstacle is not None:
        raise BuildError(f"--reproduce builds in directories of the store: {store.obstacle}")
    bases, options = planned_bases(request, store, observe)
    if options.created is None:
        observe(
            Note("SOURCE_DATE_EPOCH is not set: both builds take the present time for it; without it the times differ")
        )
        options = replace(options, epoch=int(time.time()))
    request = replace(request, options=replace(options, pull=Pull.MISSING), tags=(), outputs=(), id="")
    with ExitStack() as stack:
        images = []
        begun = 0.0
        for number in (1, 2):
            own = stack.enter_context(_empty_store(store))
            _copy_bases(bases, store, own, observe)
            time.sleep(max(0.0, begun + _APART - time.monotonic()))
            begun = time.monotonic()
            observe(Note(f"build {number} of 2"))
            try:
                images.append((own, build(request, own, observe)))
            except RulesBroken as error:  # its hint names an image of a store that is removed
                raise RulesBroken(error.findings, hint="a build without --reproduce keeps the image") from None
        (one, built), (other, again) = images
        found: list[ChangedPath] = []
        for image, second in zip(images_of(built), images_of(again), strict=True):
            for difference in compare((one, image), (other, second), options.clamp):
                found.append(difference)
                if len(found) > MOST:
                    break
        return Reproduction((str(digest_of(built)), str(digest_of(again))), tuple(found[:MOST]), more=len(found) > MOST)


@contextmanager
def _empty_store(store: Store) -> Iterator[Store]:
    directory = store.ingest.new_directory()
    root = f"{directory}/store"
    try:
        with Store(root) as own:
            yield own
    finally:
        reset(root, remove)
        os.rmdir(directory)


def _copy_bases(bases: tuple[StoredImage, ...], store: Store, own: Store, observe: Callable[[Event], None]) -> None:
    for image in bases:
        names = tuple(Reference.parse(tag.name) for tag in store.images.tags() if tag.manifest == image.manifest_digest)
        path = f"{store.ingest.new_path()}"
        output = ImageOutput(Format.OCI, path, names=names)
        with Pool() as pool:
            Exporter(names, store, pool, lambda event: None, all_layers=False).export([(output, image)])
        try:
            import_archive(own, path, None, int(time.time()), image.exact_platform)
        finally:
            os.unlink(path)
