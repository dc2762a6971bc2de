"""Finding images for FROM, COPY --from and everything else that names one: in the store, else in a registry."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.builder.errors import NotCached
from pybuild.builder.options import Pull
from pybuild.builder.plan.platforms import platform_of
from pybuild.remote.errors import RemoteError
from pybuild.store.errors import NotFound
from pybuild.values import frozen

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
    if _is_for(newest, platform):
        return newest
    others = (image for image in store.images.history(reference) if _is_for(image, platform))
    return next(others, None if strict else newest)


def _is_for(image: StoredImage, platform: Platform) -> bool:
    return platform_of(image, platform).matches(platform)


@frozen
class PlatformImages:
    """The images of one build for one of its platforms, where none for another platform can serve."""

    images: BaseImages
    platform: Platform

    def image(self, reference: Reference, platform: Platform | None = None) -> StoredImage:
        """As `BaseImages.image` says; also raises NotFound if the name means an image for another platform only."""
        found = self.images.image(reference, platform or self.platform)
        has = platform_of(found, self.platform)
        if platform is None and not has.matches(self.platform):
            raise NotFound(f"{reference.familiar} has no image for {self.platform}", hint=f"it is an image for {has}")
        return found


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
                has = self._platforms_of(reference)
                where = f"not in the store for {platform}" if has else "not in the store"
                adds = "pybuild import ARCHIVE NAME adds an image to the store"
                raise NotFound(f"{where}, and --pull=never", hint=f"{has}; {adds}" if has else adds)
        if options.fetches_nothing:
            raise NotCached(f"{reference.familiar} is not in the store and would have to be fetched")
        self._store.require_writable(f"{reference.familiar} is not in the store and cannot be fetched")
        # Imported here: a build whose images are all in the store does not need it.
        from pybuild.builder.sources.pull import pull
        from pybuild.builder.sources.registry_access import registry_access

        access = registry_access(os.environ, self._store.ingest, tls_verify=self._options.tls_verify)
        try:
            return pull(self._store, self._session.pool, reference, platform, access, self._session.observe)
        except (NotFound, RemoteError) as error:
            if not (has := self._platforms_of(reference)):
                raise
            raise error.advising(has) from error

    def _platforms_of(self, reference: Reference) -> str:
        """For which platforms the store has an image of this name, as a hint; "" if it has none."""
        tags = self._store.images.tags_of(reference)
        has = ", ".join(str(self._store.images.get(tag.manifest).exact_platform) for tag in tags)
        return f"the store has it for {has}" if has else ""

    def _is_usable(self, image: StoredImage) -> bool:
        return not any(str(layer.digest) in self._useless for layer in image.manifest.layers)
