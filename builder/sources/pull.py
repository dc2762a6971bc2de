"""Pulling images from registries: the manifest first, then the blobs that the store lacks, several at a time.

Workers check every byte against its descriptor as it arrives. The layers stay blobs until a step needs to know what is
in them. Until then they serve this image only (store/objects/changesets.py says why).
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from pybuild.builder.events import Note, Transfer
from pybuild.builder.jobs.registry import FetchBlobs, FetchManifest, RegistryAccess, WantedBlob
from pybuild.builder.sources.worker_environment import worker_environment
from pybuild.store.errors import InvalidImage, NotFound
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import COMPRESSIONS
from pybuild.store.formats.oci_config import ImageConfig, check_image
from pybuild.store.formats.oci_manifest import Descriptor, Manifest
from pybuild.store.objects.claimed_layers import stack_layers
from pybuild.store.objects.images import StoredImage
from pybuild.store.system.disk_full import free_size, require_space, room_for
from pybuild.store.system.files import file_size
from pybuild.values.limits import CONFIG_BYTES, MANIFEST_BYTES
from pybuild.values.sizes import human_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pybuild.builder.events import Event
    from pybuild.builder.workers.pool import Pool
    from pybuild.store.formats.platform import Platform
    from pybuild.store.formats.reference import Reference
    from pybuild.store.objects.ingest import Ingest
    from pybuild.store.store import Store

_AT_ONCE = 4  # blobs
_USUAL_EXPANSION = 3  # of compressed layers
_WORTH_A_WORKER = 1 << 20  # bytes of a blob


class _Sized(Protocol):
    @property
    def size(self) -> int: ...


B = TypeVar("B", bound=_Sized)


def registry_access(environ: Mapping[str, str], ingest: Ingest, *, tls_verify: bool) -> RegistryAccess:
    """What a worker needs to reach registries: the whole environment, because credential helpers can read any of it.

    All workers of this process share what they find out about registries, in a file of its working directory.
    """
    return RegistryAccess(worker_environment(environ), tls_verify, ingest.path_of("origins"))


def pull(
    store: Store,
    pool: Pool,
    reference: Reference,
    platform: Platform,
    access: RegistryAccess,
    observe: Callable[[Event], None],
) -> StoredImage:
    """Make the image of this name in the store the same as in the registry.

    Blobs that the store has are not fetched. The tag moves last, when the image is complete.
    Raises BuildError, StoreError, RemoteError.
    """
    name = reference.with_default_tag()
    path = store.ingest.new_path()
    found = pool.run(FetchManifest(access, str(name), platform.os, platform.architecture, platform.variant, path))
    for text in found.notes:
        observe(Note(text))
    access = replace(access, passed_over=found.passed_over)
    with open(path, "rb") as file:
        manifest_bytes = file.read(MANIFEST_BYTES.value + 1)
    try:
        image = store.images.get(Digest.parse(found.digest))
    except NotFound:
        image = _ImageFetch(store, pool, name, access, observe).image(manifest_bytes, found.media_type)
    store.seal()
    store.images.tag([name], image, int(time.time()), recipe="pull")
    return image


def fetch_config(
    store: Store, pool: Pool, reference: Reference, platform: Platform, access: RegistryAccess
) -> StoredImage:
    """The image of this name in the registry, without its layers; nothing of it stays in the store.

    Raises BuildError, StoreError, RemoteError.
    """
    name = reference.with_default_tag()
    path, blob = store.ingest.new_path(), store.ingest.new_path()
    found = pool.run(FetchManifest(access, str(name), platform.os, platform.architecture, platform.variant, path))
    with open(path, "rb") as file:
        manifest = Manifest.from_bytes(file.read(MANIFEST_BYTES.value + 1), found.media_type)
    wanted = _checked_config(name, manifest)
    access = replace(access, passed_over=found.passed_over)
    pool.run(FetchBlobs(access, str(name), (WantedBlob(wanted.media_type, str(wanted.digest), wanted.size, blob),)))
    with open(blob, "rb") as file:
        config = ImageConfig.from_bytes(file.read())
    check_image(manifest, config)
    return StoredImage(Digest.parse(found.digest), manifest, config, None, wanted.digest)


def _checked_config(name: Reference, manifest: Manifest) -> Descriptor:
    """The descriptor of the config. Raises InvalidImage if the config is too large."""
    config = manifest.config
    if config.size > CONFIG_BYTES.value:
        raise CONFIG_BYTES.exceeded(
            InvalidImage, f"{name.familiar}: a config of {config.size} bytes exceeds the limit of {{}}"
        )
    return config


class _ImageFetch:
    def __init__(
        self, store: Store, pool: Pool, name: Reference, access: RegistryAccess, observe: Callable[[Event], None]
    ) -> None:
        self._store = store
        self._pool = pool
        self._name = name
        self._access = access
        self._observe = observe

    def image(self, manifest_bytes: bytes, media_type: str) -> StoredImage:
        """Fetch config and layers, and record the image."""
        store = self._store
        manifest = Manifest.from_bytes(manifest_bytes, media_type)
        for layer in manifest.layers:
            if layer.media_type not in COMPRESSIONS:
                raise InvalidImage(
                    f"{self._name.familiar}: layer {layer.digest}: media type {layer.media_type!r} is not that of a layer"
                )
        self._blobs((_checked_config(self._name, manifest), *manifest.layers))
        config_bytes = store.blobs.read(manifest.config.digest, CONFIG_BYTES)
        config = ImageConfig.from_bytes(config_bytes)
        check_image(manifest, config)
        snapshot = stack_layers(store.metadata, store.changesets, store.snapshots, manifest, config)
        scratch = store.ingest.new_path(), store.ingest.new_path()
        return store.images.add(manifest_bytes, config_bytes, snapshot, scratch)

    def _blobs(self, descriptors: Sequence[Descriptor]) -> None:
        """Fetch the blobs that the store lacks, the largest first, and report progress."""
        store = self._store
        missing = {d.digest: d for d in descriptors if not store.blobs.has(d.digest)}
        wanted = sorted(missing.values(), key=lambda descriptor: -descriptor.size)
        total = sum(descriptor.size for descriptor in wanted)
        self._check_space(wanted)
        blobs = [WantedBlob(d.media_type, str(d.digest), d.size, store.ingest.new_path()) for d in wanted]
        jobs = [FetchBlobs(self._access, str(self._name), share) for share in shares(blobs)]

        def report() -> None:
            self._observe(Transfer(self._name.familiar, sum(file_size(blob.path) for blob in blobs), total))

        self._pool.run_many(jobs, _AT_ONCE, report)
        for blob, descriptor in zip(blobs, wanted, strict=True):
            store.blobs.adopt(blob.path, descriptor.digest, descriptor.size)

    def _check_space(self, wanted: Sequence[Descriptor]) -> None:
        """Raise NoSpace if the blobs do not fit, before the first of them is fetched; warn if they might not when unpacked.

        How large a compressed layer is when a RUN unpacks it is not known before it is read: an estimate only warns.
        """
        name, root = self._name.familiar, self._store.root
        total = sum(descriptor.size for descriptor in wanted)
        require_space(root, total, f"{name}: what has to be fetched")
        unpacked = sum(descriptor.size * _expansion(descriptor) for descriptor in wanted)
        if free_size(root) < total + unpacked:
            text = f"{name}: {human_size(total)} to fetch; unpacked, it might not fit: {room_for(root)}"
            self._observe(Note(text))


def _expansion(descriptor: Descriptor) -> int:
    """How many times larger a blob usually is in a tree."""
    compression = COMPRESSIONS.get(descriptor.media_type)
    return 1 if compression in (None, Compression.UNCOMPRESSED) else _USUAL_EXPANSION


def shares(blobs: Sequence[B]) -> list[tuple[B, ...]]:
    """Divide blobs (the largest first) among workers, each with about the same number of bytes.

    Starting a worker for a config of some kilobytes would cost more than it gains: only large blobs get workers.
    """
    large = sum(blob.size >= _WORTH_A_WORKER for blob in blobs)
    shares: list[list[B]] = [[] for _ in range(max(1, min(_AT_ONCE, large)))]
    loads = [0] * len(shares)
    for blob in blobs:
        least = loads.index(min(loads))
        shares[least].append(blob)
        loads[least] += blob.size
    return [tuple(share) for share in shares if share]
