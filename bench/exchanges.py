"""What the log of a proxy says about a registry's client: bytes, requests, layers, and how long requests waited for others."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence, Set


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its answer. Times are in seconds, bytes include headers.

    `start` is when its first byte reached the proxy, `end` is when the last byte of the answer left it.
    """

    method: str  # "" for what is not HTTP, such as the handshake that finds out whether a registry speaks TLS
    target: str  # path and query
    status: int  # 0 if there was no answer
    start: float
    end: float
    sent: int
    received: int


class Kind(Enum):
    """What a client wants."""

    PROBE = "probe"  # find out how to speak to the registry
    MANIFEST = "manifest"  # read or question one
    PUT_MANIFEST = "put manifest"
    CONFIG = "config"  # read one
    LAYER = "layer"  # read one: everything that no manifest names as a config
    QUESTION = "question"  # is this blob there?
    MOUNT = "mount"  # take a blob from another repository; the registry may answer that it has to be sent
    BEGIN = "begin upload"  # get a place to send a blob to
    UPLOAD_CONFIG = "upload config"
    UPLOAD_LAYER = "upload layer"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Moved:
    """What one run has sent and received. `chain` and `layers` are None where they are not known."""

    bytes: int  # in both directions, headers included
    requests: int
    chain: int | None = None  # requests of the longest series in which each began after the one before had ended
    layers: int | None = None  # those of which a byte was asked for or sent
    layer_bytes: int | None = None  # of the requests for these


def kinds(exchanges: Sequence[Exchange], configs: Set[str]) -> list[tuple[Kind, str]]:
    """The kind of each exchange, and the digest of its blob ("" if there is none). `configs` are digests of configs.

    The parts of an upload have the digest that its last part names. An upload that does not end counts as a layer's.
    """
    digests = {_upload(one): found for one in exchanges if (found := _named_digest(one)) and _upload(one)}
    return [_kind(one, configs, digests) for one in exchanges]


def summary(exchanges: Sequence[Exchange], configs: Set[str]) -> Moved:
    """The figures of a run."""
    layers: Counter[str] = Counter()
    for one, (kind, digest) in zip(exchanges, kinds(exchanges, configs), strict=True):
        if kind in (Kind.LAYER, Kind.UPLOAD_LAYER):
            layers[digest] += one.sent + one.received
    size = sum(one.sent + one.received for one in exchanges)
    return Moved(size, len(exchanges), longest_chain(exchanges), len(layers), layers.total())


def longest_chain(exchanges: Iterable[Exchange]) -> int:
    """The largest number of exchanges of which none overlap, thus each could have waited for the one before.

    A client that waits for each answer before its next request makes a chain of all of its requests. To take the one
    that ends first, again and again, gives the largest number.
    """
    length, free = 0, float("-inf")
    for one in sorted(exchanges, key=lambda one: one.end):
        if one.start >= free:
            length, free = length + 1, one.end
    return length


def lines(exchanges: Sequence[Exchange], configs: Set[str]) -> list[str]:
    """The log for readers: when each exchange began and ended, in milliseconds since the first."""
    first = min((one.start for one in exchanges), default=0.0)
    found = sorted(zip(exchanges, kinds(exchanges, configs), strict=True), key=lambda pair: pair[0].start)
    return [
        f"{(one.start - first) * 1000:7.1f} {(one.end - first) * 1000:7.1f} {one.sent + one.received:>9} "
        f"{kind.value:<13} {one.status} {one.method} {(path := urlsplit(one.target).path)}"
        f"{'' if digest in path else f' {digest}'}".rstrip()
        for one, (kind, digest) in found
    ]


def _kind(one: Exchange, configs: Set[str], digests: Mapping[str, str]) -> tuple[Kind, str]:
    path = urlsplit(one.target).path
    digest = digests.get(_upload(one), "") or _named_digest(one)
    if not one.method or path in ("/v2", "/v2/"):
        return Kind.PROBE, ""
    if "/manifests/" in path:
        return (Kind.PUT_MANIFEST if one.method == "PUT" else Kind.MANIFEST), ""
    if "/blobs/uploads" in path:
        if one.method == "POST" and "mount" in _query(one):
            return Kind.MOUNT, _query(one)["mount"]
        if one.method == "POST" and not digest:
            return Kind.BEGIN, ""
        if one.method in ("GET", "DELETE"):
            return Kind.OTHER, ""
        return (Kind.UPLOAD_CONFIG if digest in configs else Kind.UPLOAD_LAYER), digest
    if "/blobs/" in path:
        if one.method == "HEAD":
            return Kind.QUESTION, digest
        return (Kind.CONFIG if digest in configs else Kind.LAYER), digest
    return Kind.OTHER, ""


def _upload(one: Exchange) -> str:
    """The path of an upload that has begun; "" for other exchanges."""
    before, found, identity = urlsplit(one.target).path.partition("/blobs/uploads/")
    return f"{before}{found}{identity}" if identity else ""


def _named_digest(one: Exchange) -> str:
    """The digest of a blob in the target of an exchange, or ""."""
    path = urlsplit(one.target).path
    if "/blobs/uploads" in path:
        return _query(one).get("digest", "")
    return path.partition("/blobs/")[2]


def _query(one: Exchange) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(urlsplit(one.target).query).items()}
