"""The errors that the store raises.

Every failure of the store is a `StoreError`. The subclasses are the cases that callers distinguish. `hint` is one line
of advice for the user, or None.
"""

from __future__ import annotations

from pybuild.values.errors import PybuildError


class StoreError(PybuildError):
    """An error in the bytes on disk, or in bytes that are on their way there."""


class NotFound(StoreError):
    """The store, an archive, a registry or a web server has no object of that name."""


class DigestMismatch(StoreError):
    """The bytes do not match the digest or size in their descriptor."""


class InvalidImage(StoreError):
    """A manifest, config, layer or archive violates its format or exceeds a limit."""


class NotACache(InvalidImage):
    """What a name means is not a cache of pybuild: another image, a cache of another tool or of another version."""


class NameNeeded(InvalidImage):
    """The archive being imported contains no image name, and the caller gave none."""


class UnsafePath(InvalidImage):
    """An entry names a path outside of the root, or would replace something that it must not change."""


class RootOccupied(StoreError):
    """A root filesystem cannot be made here: something that is left alone is in its way."""


class StoreBusy(StoreError):
    """Another process holds a lock that this operation needs."""


class BlobVanished(StoreError):
    """Another process has removed a blob from a layout directory while an image that needs it was written there."""


class CannotWrite(StoreError):
    """Nothing can be written at the moment. What is stored can still be read."""


class NoSpace(CannotWrite):
    """The disk, the quota or the inode table is full."""


class ReadOnly(CannotWrite):
    """The file system is mounted read-only, or this user has no permission to write there."""
