"""Pulling images from registries: the manifest and the config. sources/layers.py fetches the layers when they are needed.

Workers check every byte against its descriptor as it arrives. The layers serve this image only, until they have been read
(store/objects/changesets.py says why).
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from pybuild.builder.events import Note
from pybuild.builder.jobs.registry import FetchImage
from pybuild.builder.jobs.transfer import FetchGraph
from pybuild.builder.sources.layers import LayerFetcher
from pybuild.builder.workers.tasks import run_until_complete
from pybuild.store.errors import InvalidImage, NotFound
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.image_graph import read_graph
from pybuild.store.formats.media_types import COMPRESSIONS
from pybuild.store.formats.oci_config import ImageConfig, check_image
from pybuild.store.formats.oci_manifest import Descriptor, Manifest
from pybuild.store.objects.claimed_layers import stack_layers
from pybuild.store.objects.images import StoredImage
from pybuild.values import frozen
from pybuild.values.limits import CONFIG_BYTES, MANIFEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.builder.events import Event
    from pybuild.builder.jobs.registry import RegistryAccess
    from pybuild.builder.workers.pool import Pool
    from pybuild.store.formats.platform import Platform
    from pybuild.store.formats.reference import Reference
    from pybuild.store.store import Store


def pull(
    store: Store,
    pool: Pool,
    reference: Reference,
    platform: Platform,
    access: RegistryAccess,
    observe: Callable[[Event], None],
    *,
    whole: bool = False,
) -> StoredImage:
    """Make the image of this name in the store the same as in the registry. The tag moves last.

    Its layers stay in the registry until something needs them. With `whole` they are fetched as well.
    Raises BuildError, StoreError, RemoteError.
    """
    name = reference.with_default_tag()
    found = _fetch(store, pool, name, platform, access, observe)
    image = found.image if isinstance(found, _Fetched) else found
    now = int(time.time())
    fetcher = LayerFetcher(store, pool, observe, access.tls_verify)
    if whole:
        fetcher.check_space(image, name.familiar)  # before anything is stored
    with store.metadata.transaction():  # a layer that is elsewhere has a place
        store.places.add([layer.digest for layer in image.manifest.layers], name, now)
        if isinstance(found, _Fetched):
            image = found.add_to(store)
    if whole:
        run_until_complete(fetcher.fetch_image(image, name=name.familiar))
    store.seal()
    store.images.tag([name], image, now, recipe="pull")
    return image


def fetch_config(
    store: Store, pool: Pool, reference: Reference, platform: Platform, access: RegistryAccess
) -> StoredImage:
    """The image of this name in the registry, without its layers; nothing of it stays in the store.

    Raises BuildError, StoreError, RemoteError.
    """
    found = _fetch(store, pool, reference.with_default_tag(), platform, access, lambda _: None)
    return found.image if isinstance(found, _Fetched) else found


def image_digests(
    store: Store, pool: Pool, reference: Reference, access: RegistryAccess, observe: Callable[[Event], None]
) -> list[Digest]:
    """The manifests of the images for all platforms that this name means in the registry. Nothing is stored.

    Raises InvalidImage if it means none, BuildError, StoreError, RemoteError.
    """
    found = pool.run(FetchGraph(access, str(reference), "", store.ingest.new_path()))
    for text in found.notes:
        observe(Note(text))
    documents = {Digest.parse(one.digest): one for one in found.documents}
    root = found.documents[-1]

    def read(descriptor: Descriptor) -> bytes:
        return _read(documents[descriptor.digest].path, MANIFEST_BYTES.value)

    images = read_graph(Descriptor(root.media_type, Digest.parse(root.digest), root.size), read).images
    if not images:
        raise InvalidImage(f"{reference.familiar} has no image of a root filesystem")
    return [document.descriptor.digest for document in images]


@frozen
class _Fetched:
    """An image that the store does not have yet: the bytes of its manifest and its config, and what they say."""

    image: StoredImage
    manifest: bytes
    config: bytes

    def add_to(self, store: Store) -> StoredImage:
        """Record the image."""
        image = self.image
        snapshot = stack_layers(store.metadata, store.changesets, store.snapshots, image.manifest, image.config)
        scratch = store.ingest.new_path(), store.ingest.new_path()
        return store.images.add(self.manifest, self.config, snapshot, scratch)


def _fetch(
    store: Store,
    pool: Pool,
    name: Reference,
    platform: Platform,
    access: RegistryAccess,
    observe: Callable[[Event], None],
) -> _Fetched | StoredImage:
    """Ask the registry what a name means."""
    known = None
    with suppress(NotFound):
        resolved = store.images.resolve(name)
        known = None if resolved is None else store.images.get(resolved)
    job = FetchImage(
        access, str(name), str(platform),
        "" if known is None else str(known.manifest_digest), store.ingest.new_path(), store.ingest.new_path(),
    )  # fmt: skip
    found = pool.run(job)
    for text in found.notes:
        observe(Note(text))
    if known is not None and found.digest == str(known.manifest_digest):
        return known
    with suppress(NotFound):
        return store.images.get(Digest.parse(found.digest))
    manifest_bytes = _read(job.manifest_path, MANIFEST_BYTES.value)
    manifest = Manifest.from_bytes(manifest_bytes, found.media_type)
    for layer in manifest.layers:
        if layer.media_type not in COMPRESSIONS:
            raise InvalidImage(
                f"{name.familiar}: layer {layer.digest}: media type {layer.media_type!r} is not that of a layer"
            )
    config_bytes = _read(job.config_path, CONFIG_BYTES.value)
    config = ImageConfig.from_bytes(config_bytes)
    check_image(manifest, config)
    image = StoredImage(Digest.parse(found.digest), manifest, config, None, manifest.config.digest)
    return _Fetched(image, manifest_bytes, config_bytes)


def _read(path: str, limit: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(limit + 1)
