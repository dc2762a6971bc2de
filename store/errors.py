"""What the store raises.

Every failure of the store is a `StoreError`; the subclasses name the cases that callers tell apart.
`hint` is one line of advice for the person who reads the message, or None.
"""

from __future__ import annotations


class StoreError(Exception):
    """Something about the bytes on disk, or about bytes on their way there."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


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


class RegistryError(StoreError):
    """A registry does not answer as the distribution-spec says, or exceeds a limit."""


class Unreachable(RegistryError):
    """No connection to a registry, or none that can be trusted."""


class TooSlow(RegistryError):
    """A registry let a deadline pass, or sends less than the lowest rate."""


class Unauthorized(RegistryError):
    """A registry refuses access, or credentials would have to go where they do not belong."""
