"""Where images come from, for FROM, COPY --from and every other place that names one: the store, else a registry."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.builder.errors import NotCached
from pybuild.builder.options import Pull
from pybuild.builder.plan.platforms import platform_of
from pybuild.store.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.builder.events import Event
    from pybuild.builder.options import BuildOptions
    from pybuild.builder.workers.pool import Pool
    from pybuild.store.formats.platform import Platform
    from pybuild.store.formats.reference import Reference
    from pybuild.store.objects.images import StoredImage
    from pybuild.store.store import Store


def stored_image(store: Store, reference: Reference, platform: Platform, *, strict: bool) -> StoredImage | None:
    """The newest image of that name that is for a platform; unless that is `strict`, else the newest of all."""
    digest = store.images.resolve(reference)
    if digest is None:
        return None
    newest = store.images.get(digest)
    if platform_of(newest, platform).matches(platform):
        return newest
    others = (image for image in store.images.history(reference) if platform_of(image, platform).matches(platform))
    return next(others, None if strict else newest)


class BaseImages:
    """The images of one build. A name that is asked for twice means the same image both times."""

    def __init__(self, store: Store, pool: Pool, options: BuildOptions, observe: Callable[[Event], None]) -> None:
        self._store = store
        self._pool = pool
        self._options = options
        self._observe = observe
        self._found: dict[tuple[Reference, Platform | None], StoredImage] = {}

    def image(self, reference: Reference, platform: Platform | None = None) -> StoredImage:
        """The image of that name for this platform, else for the build's. Raises StoreError.

        Where nobody has asked for a platform, an image of the store serves whatever it is for.
        """
        key = reference.with_default_tag(), platform
        if key not in self._found:
            self._found[key] = self._find(*key)
        return self._found[key]

    def _find(self, reference: Reference, asked: Platform | None) -> StoredImage:
        options = self._options
        platform = asked or options.platform
        if options.pull is not Pull.ALWAYS:
            found = stored_image(self._store, reference, platform, strict=asked is not None or options.is_foreign)
            if found is not None:
                return found
            if options.pull is Pull.NEVER:
                where = (
                    f"not in the store for {platform}" if self._store.images.resolve(reference) else "not in the store"
                )
                raise NotFound(f"{where}, and --pull=never", hint="pybuild import ARCHIVE NAME brings an image in")
        if options.require_cached:
            raise NotCached(f"{reference.familiar} is not in the store, and would be fetched")
        # Only here: a build whose images are all in the store needs none of this.
        from pybuild.builder.sources.pull import pull, registry_access

        access = registry_access(os.environ, tls_verify=self._options.tls_verify)
        return pull(self._store, self._pool, reference, platform, access, self._observe)
