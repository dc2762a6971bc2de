"""What the store raises.

Every failure of the store is a `StoreError`; the subclasses name the cases that callers tell apart.
`hint` is one line of advice for the person who reads the message, or None.
"""

from __future__ import annotations

from pybuild.values.errors import PybuildError


class StoreError(PybuildError):
    """Something about the bytes on disk, or about bytes on their way there."""


class NotFound(StoreError):
    """The store holds no object of that name."""


class DigestMismatch(StoreError):
    """Bytes are not those that their descriptor promised."""


class InvalidImage(StoreError):
    """A manifest, config, layer or archive breaks its format, or a limit."""


class NameNeeded(InvalidImage):
    """What is imported has no name of its own, and none was given."""


class UnsafePath(InvalidImage):
    """An entry of a layer names something outside the root, or changes what it must not."""


class StoreBusy(StoreError):
    """Another process holds the lock that this verb needs."""


class NoSpace(StoreError):
    """The disk, the quota or the inode table is full."""
