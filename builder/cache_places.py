"""Where caches of other machines are: what --cache-from and --cache-to name."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.store.formats.compression import Compression
    from pybuild.store.formats.reference import Reference

DEFAULT_RECORDS = 1000
ALL_MOUNTS = "all"  # in place of ids of cache mounts


@frozen
class RegistryCache:
    """A name in a registry, always with a tag or a digest: a cache, or an image that carries the cache of its own steps."""

    name: Reference

    @staticmethod
    def named(text: str) -> RegistryCache:
        """The cache with this name, which has the tag `latest` if it has none. Raises InvalidImage."""
        from pybuild.store.formats.reference import Reference

        return RegistryCache(Reference.parse(text).with_default_tag())

    def __str__(self) -> str:
        return self.name.familiar


@frozen
class LocalCache:
    """An OCI layout in a directory (an absolute path), and a name in it (its `org.opencontainers.image.ref.name`)."""

    path: str
    tag: str = "latest"

    def __str__(self) -> str:
        return self.path


@frozen
class InlineCache:
    """The config of the image itself."""

    def __str__(self) -> str:
        return "the image"


class CacheMode(Enum):
    """Which layers a cache gets."""

    MIN = "min"  # those of the image
    MAX = "max"  # those of all steps, also of stages that the image only copies from


@frozen
class CacheImport:
    """One --cache-from."""

    place: RegistryCache | LocalCache


@frozen
class CacheExport:
    """One --cache-to."""

    place: RegistryCache | LocalCache | InlineCache
    mode: CacheMode = CacheMode.MIN
    max_records: int = DEFAULT_RECORDS
    max_size: int | None = None  # bytes of layers; None: any
    compression: Compression | None = None  # of layers that this build made; None: as the image has them
    mounts: tuple[str, ...] = ()  # ids of cache mounts that travel too; (ALL_MOUNTS,) for all
    ignore_error: bool = True  # a cache that cannot be written is a warning, and does not fail the build
