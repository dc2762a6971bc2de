"""Finding images for FROM, COPY --from and everything else that names one: in the store, else in a registry."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.builder.errors import NotCached
from pybuild.builder.options import Pull
from pybuild.builder.plan.platforms import platform_of
from pybuild.store.errors import NotFound

if TYPE_CHECKING:
    from pybuild.builder.session import Session
    from pybuild.store.formats.platform import Platform
    from pybuild.store.formats.reference import Reference
    from pybuild.store.objects.images import StoredImage
    from pybuild.store.store import Store


def stored_image(store: Store, reference: Reference, platform: Platform, *, strict: bool) -> StoredImage | None:
    """The newest image of that name for a platform. Without one: None if `strict`, else the newest of any."""
    digest = store.images.resolve(reference)
    if digest is None:
        return None
    newest = store.images.get(digest)
    if platform_of(newest, platform).matches(platform):
        return newest
    others = (image for image in store.images.history(reference) if platform_of(image, platform).matches(platform))
    return next(others, None if strict else newest)


class BaseImages:
    """The images of one build. A name means the same image for the whole build."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._store = session.store
        self._options = session.options
        self._found: dict[tuple[Reference, Platform | None], StoredImage] = {}
        self._useless: set[str] = set()  # digests of layers that cannot be had, or are not what their image says

    def image(self, reference: Reference, platform: Platform | None = None) -> StoredImage:
        """The image of that name for this platform (None: the build's).

        If neither the recipe nor the user asked for a platform, an image in the store serves, whatever its platform is.
        Raises NotCached, and the errors of `pull`.
        """
        key = reference.with_default_tag(), platform
        if key not in self._found:
            self._found[key] = self._find(*key)
        return self._found[key]

    def give_up(self, layer: str) -> bool:
        """Do without images that have this layer (the digest of its blob): ask the registry what their names mean now.

        Returns False if that was done before: the layer is still missing, so the build has to fail.
        """
        if layer in self._useless or self._options.pull is Pull.NEVER or self._options.fetches_nothing:
            return False
        self._useless.add(layer)
        self._found.clear()
        return True

    def _find(self, reference: Reference, requested: Platform | None) -> StoredImage:
        options = self._options
        platform = requested or options.platform
        if options.pull is not Pull.ALWAYS:
            found = stored_image(self._store, reference, platform, strict=requested is not None or options.is_foreign)
            if found is not None and self._is_usable(found):
                return found
            if options.pull is Pull.NEVER:
                known = self._store.images.resolve(reference)
                where = f"not in the store for {platform}" if known else "not in the store"
                raise NotFound(
                    f"{where}, and --pull=never", hint="pybuild import ARCHIVE NAME adds an image to the store"
                )
        if options.fetches_nothing:
            raise NotCached(f"{reference.familiar} is not in the store and would have to be fetched")
        self._store.require_writable(f"{reference.familiar} is not in the store and cannot be fetched")
        # Imported here: a build whose images are all in the store does not need it.
        from pybuild.builder.sources.pull import pull
        from pybuild.builder.sources.registry_access import registry_access

        access = registry_access(os.environ, self._store.ingest, tls_verify=self._options.tls_verify)
        return pull(self._store, self._session.pool, reference, platform, access, self._session.observe)

    def _is_usable(self, image: StoredImage) -> bool:
        return not any(str(layer.digest) in self._useless for layer in image.manifest.layers)
