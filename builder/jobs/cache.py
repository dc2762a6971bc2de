"""The job that reads the cache of another machine from a registry: its manifest and its config, without layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pybuild.builder.jobs.registry import RegistryAccess, write_new
from pybuild.store.errors import NotFound
from pybuild.store.formats.cache_image import cache_manifest
from pybuild.store.formats.oci_manifest import Manifest
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.reference import Reference
from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.store.formats.oci_manifest import Descriptor


@frozen
class FetchedCache:
    """What a name means. Without such a name `digest` and `media_type` are empty."""

    media_type: str
    digest: str
    notes: tuple[str, ...] = ()  # for the user


@frozen
class FetchCache:
    """Fetch the manifest and the config of the image that a name means for a platform ("": no such name).

    The manifest is written before the config is asked for. Raises NotACache for everything that is not such an image.
    """

    in_namespace: ClassVar[bool] = False
    access: RegistryAccess
    reference: str
    platform: str
    manifest_path: str
    config_path: str

    def run(self) -> FetchedCache:
        platform, name = Platform.parse(self.platform), Reference.parse(self.reference)
        with self.access.client() as client:
            try:
                root = client.document(name)
            except NotFound:
                return FetchedCache("", "", client.notes)

            def read(descriptor: Descriptor) -> bytes:
                return client.document(name, descriptor).data

            found, data = cache_manifest(root.descriptor, root.data, platform, read)
            write_new(self.manifest_path, data)
            manifest = Manifest.from_bytes(data, found.media_type)
            write_new(self.config_path, client.config(name, manifest.config))
            return FetchedCache(found.media_type, str(found.digest), client.notes)
