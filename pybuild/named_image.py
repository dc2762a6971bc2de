"""An image that a command names in order to read it: of the store, or of an archive that is not imported.

    NAME | DIGEST                     an image of the store
    oci-archive:FILE[:NAME]           an OCI archive; NAME is a full name, or a tag alone
    docker-archive:FILE[:NAME]        an archive of `docker save` or `podman save`
    oci:DIR[:NAME]                    an OCI layout directory
    docker://NAME                     an image of a registry, which is not pulled: a scratch store has it for the time

These are the names of skopeo and podman. If no such file exists, an image of the store can have the name too.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.builder.events import Note, ignore
from pybuild.builder.gate.stored import readable
from pybuild.builder.plan.history import instruction_of
from pybuild.builder.sources.layers import LayerFetcher
from pybuild.builder.sources.pull import image_digests, pull
from pybuild.builder.sources.registry_access import registry_access
from pybuild.builder.workers.pool import Pool
from pybuild.image import Image
from pybuild.store.errors import InvalidImage, NotFound, StoreError
from pybuild.store.formats.oci_config import normalise_history
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.reference import Reference
from pybuild.store.importing.archived import (
    ArchiveKind,
    ReadableImage,
    archive_place,
    import_archived,
    open_all_archived,
    open_archived,
)
from pybuild.store.objects.ingest import IngestElsewhere
from pybuild.store.store import Access, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pybuild.builder.events import Event
    from pybuild.builder.jobs.registry import RegistryAccess
    from pybuild.store.importing.archived import ArchivePlace
    from pybuild.store.objects.images import StoredImage
    from pybuild.store.objects.indexes import Stored


_REGISTRY = "docker://"


def layer_instructions(image: ReadableImage) -> list[str]:
    """The instruction that made each layer, the lowest first; "" if the history does not tell it."""
    lines = normalise_history(image.config).history
    return [instruction_of(line.created_by) for line in lines if not line.empty_layer]


@contextmanager
def open_images(
    root: str,
    *names: str,
    platform: Platform | None = None,
    tls_verify: bool = True,
    observe: Callable[[Event], None] = ignore,
    look_further: bool = False,
) -> Iterator[list[ReadableImage]]:
    """The images that users name so. The store at `root` is opened if one of them is in it, or needs scratch space.

    Of a name with images for several platforms: the one for `platform`. Without one it is the newest of the store, and
    that of an archive for this machine. Tables of contents need all layers: those that are not in the store are fetched
    then; `tls_verify` is for their registry, and `observe` is told of it. With `look_further` a name that the store does
    not have is looked for in its registry. Raises NotFound, StoreError, RemoteError, OSError.
    """
    with ExitStack() as stack:
        opener = _Opener(root, stack, platform, tls_verify=tls_verify, observe=observe, look_further=look_further)
        yield [opener.open(name) for name in names]


@contextmanager
def open_all_platforms(
    root: str, name: str, platform: Platform | None, *, tls_verify: bool = True
) -> Iterator[list[ReadableImage]]:
    """What `open_images` opens, but the images for all platforms, unless one for `platform` is asked for.

    Raises NotFound, StoreError, RemoteError, OSError.
    """
    with ExitStack() as stack:
        yield _Opener(root, stack, platform, tls_verify=tls_verify).open_all(name)


@contextmanager
def image_to_export(root: str, name: str, platform: Platform | None, *, all_platforms: bool = False) -> Iterator[Image]:
    """The image, or the index, that a user names so. That of an archive is imported into a scratch store, which is removed
    at the end.

    With `all_platforms` it is an index of all images that the name stands for. Raises NotFound, StoreError, OSError.
    """
    with ExitStack() as stack:
        opener = _Opener(root, stack, platform)
        place = opener.place(name)
        if place is None:
            image, reference = opener.find(name)  # raises the errors that help
            stored: Stored = image
            if platform is None:
                store = opener.store()
                stored = (
                    store.indexes.whole(name, store.ingest.new_path()) if all_platforms else store.indexes.find(name)[0]
                )
            yield Image.of(opener.store().root, stored, (reference,) if reference else ())
            return
        if all_platforms:
            raise InvalidImage(
                f"{name} is not in the store: --all-platforms is for images of the store",
                hint="pybuild copy writes an index with all its images; pybuild import --all-platforms stores it",
            )
        ingest = opener.store().ingest
        with Store(ingest.new_path()) as scratch:
            stored, names = import_archived(scratch, place, ingest.new_path, platform)
            yield Image(scratch.root, stored, names)


class _Opener:
    """Opens images; `stack` closes them, and the store."""

    def __init__(
        self,
        root: str,
        stack: ExitStack,
        platform: Platform | None,
        *,
        tls_verify: bool = True,
        observe: Callable[[Event], None] = ignore,
        look_further: bool = False,
    ) -> None:
        self._root = root
        self._tls_verify = tls_verify
        self._observe = observe
        self._look_further = look_further
        self._stack = stack
        self._platform = platform
        self._store: Store | None = None
        self._elsewhere: IngestElsewhere | None = None

    def open(self, name: str) -> ReadableImage:
        if name.startswith(_REGISTRY):
            return self._remote(name.removeprefix(_REGISTRY))
        place = self.place(name)
        if place is not None:
            return self._stack.enter_context(open_archived(place, self._scratch, self._platform))
        try:
            image, _ = self.find(name)
        except NotFound:
            if not self._look_further or os.path.exists(name):
                raise
            self._observe(Note(f"the store has no image {name}: reading it from its registry"))
            return self._remote(name)
        return self._stored(self.store(), image)

    def open_all(self, name: str) -> list[ReadableImage]:
        """The images for all platforms that a name stands for; with a platform the one for that."""
        if self._platform is not None:
            return [self.open(name)]
        if name.startswith(_REGISTRY):
            return self._all_remote(name.removeprefix(_REGISTRY))
        place = self.place(name)
        if place is not None:
            return self._stack.enter_context(open_all_archived(place, self._scratch))
        self.find(name)  # raises the errors that help
        store = self.store()
        return [self._stored(store, image) for image in store.indexes.all_images(name)[1]]

    def _remote(self, name: str) -> ReadableImage:
        """The image of a registry. Its layers are fetched when its tables of contents are read."""
        reference = Reference.parse(name).with_default_tag()
        with self._registry() as (scratch, pool, access):
            image = pull(scratch, pool, reference, self._platform or Platform.host(), access, self._observe)
        return self._stored(scratch, image)

    def _all_remote(self, name: str) -> list[ReadableImage]:
        """The images of a registry for all platforms, as `_remote` reads one."""
        reference = Reference.parse(name).with_default_tag()
        with self._registry() as (scratch, pool, access):
            # By their digests: the name can get another meaning meanwhile.
            digests = image_digests(scratch, pool, reference, access, self._observe)
            images = [
                pull(scratch, pool, replace(reference, digest=digest), Platform.host(), access, self._observe)
                for digest in digests
            ]
        return [self._stored(scratch, image) for image in images]

    @contextmanager
    def _registry(self) -> Iterator[tuple[Store, Pool, RegistryAccess]]:
        """A scratch store, which stays open, and the way to registries."""
        scratch = self._stack.enter_context(Store(self._scratch()))
        access = registry_access(os.environ, scratch.ingest, tls_verify=self._tls_verify)
        with Pool() as pool:
            pool.on_note = lambda text: self._observe(Note(text))
            yield scratch, pool, access

    def place(self, name: str) -> ArchivePlace | None:
        """The archive that a name means, None if it is an image of the store."""
        place = archive_place(name)
        return place if place is not None and (place.exists or not self._is_stored(name)) else None

    def find(self, name: str) -> tuple[StoredImage, Reference | None]:
        """The image of the store with this name or digest, and the name. Raises NotFound, InvalidImage."""
        try:
            return self.store().indexes.find_image(name, self._platform)
        except (NotFound, InvalidImage) as error:
            if not os.path.exists(name):
                raise
            kind = ArchiveKind.OCI_LAYOUT if os.path.isdir(name) else ArchiveKind.OCI_ARCHIVE
            raise type(error)(str(error), hint=f"write {kind.value}:{name} for the archive {name}") from error

    def _stored(self, store: Store, image: StoredImage) -> ReadableImage:
        @contextmanager
        def fetcher() -> Iterator[LayerFetcher]:
            with Pool() as pool:
                yield LayerFetcher(store, pool, self._observe, self._tls_verify)

        return readable(store, image, fetcher)

    def store(self) -> Store:
        if self._store is None:
            self._store = self._stack.enter_context(Store(self._root, Access.READ))
        return self._store

    def _scratch(self) -> str:
        """An unused path: of the store, or in a directory for temporary files if there cannot be a store."""
        if self._elsewhere is None:
            try:
                return self.store().ingest.new_path()
            except StoreError:
                self._elsewhere = IngestElsewhere()
                self._stack.callback(self._elsewhere.close)
        return self._elsewhere.new_path()

    def _is_stored(self, name: str) -> bool:
        try:
            self.store().indexes.find(name)
        except StoreError:
            return False
        return True
