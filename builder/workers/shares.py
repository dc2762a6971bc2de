"""Dividing blobs among workers that send or fetch them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOBS_AT_ONCE = 4
_WORTH_A_WORKER = 1 << 20  # bytes of a blob


class _Sized(Protocol):
    @property
    def size(self) -> int: ...


B = TypeVar("B", bound=_Sized)


def shares(blobs: Sequence[B]) -> list[tuple[B, ...]]:
    """Divide blobs (the largest first) among workers, each with about the same number of bytes.

    Starting a worker for a config of some kilobytes would cost more than it gains: only large blobs get workers.
    """
    large = sum(blob.size >= _WORTH_A_WORKER for blob in blobs)
    shares: list[list[B]] = [[] for _ in range(max(1, min(BLOBS_AT_ONCE, large)))]
    loads = [0] * len(shares)
    for blob in blobs:
        least = loads.index(min(loads))
        shares[least].append(blob)
        loads[least] += blob.size
    return [tuple(share) for share in shares if share]
