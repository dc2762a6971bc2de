"""Content digests: `algorithm:hex`, validated once and trusted afterwards.

Source: OCI image-spec, descriptor.md, "Digests". Only registered algorithms are accepted, because a digest becomes a
file name (`blobs/sha256/<hex>`). No text becomes part of a path unless it passed `Digest.parse`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage
from pybuild.values import frozen
from pybuild.values.pattern import pattern

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_HEX = pattern(r"[0-9a-f]+")


@frozen
class Digest:
    """A validated digest. `str(digest)` is its canonical text."""

    algorithm: str
    hex: str

    @staticmethod
    def parse(text: str) -> Digest:
        """Read `sha256:<64 hex>` or `sha512:<128 hex>`; raise InvalidImage for anything else."""
        algorithm, _, value = text.partition(":")
        if _HEX_LENGTH.get(algorithm) != len(value) or not _HEX.fullmatch(value):
            raise InvalidImage(f"invalid digest {text[:160]!r}", hint="expected sha256: and 64 lower-case hex digits")
        return Digest(algorithm, value)

    @staticmethod
    def of(data: ReadableBuffer) -> Digest:
        """The sha256 digest of `data`."""
        return Digest("sha256", hashlib.sha256(data).hexdigest())

    def __lt__(self, other: Digest) -> bool:
        return (self.algorithm, self.hex) < (other.algorithm, other.hex)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    @property
    def short(self) -> str:
        """The first twelve hex digits, for display."""
        return self.hex[:12]
