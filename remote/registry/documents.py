"""Reading one manifest or index of a registry, checked against the digest or descriptor that names it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pybuild.remote.errors import RemoteError
from pybuild.remote.http.transport import RequestRefused
from pybuild.remote.http.urls import printable
from pybuild.store.errors import DigestMismatch, InvalidImage
from pybuild.store.formats.bounded_json import load_object
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import INDEXES, MANIFESTS, MediaType
from pybuild.store.formats.oci_manifest import Descriptor
from pybuild.values import frozen
from pybuild.values.limits import MANIFEST_BYTES

if TYPE_CHECKING:
    from pybuild.remote.registry.session import RegistrySession

ACCEPT = ", ".join(INDEXES + MANIFESTS)
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"
_GENERIC = ("", "application/json", "application/octet-stream", "text/plain")


@frozen
class FetchedManifest:
    """A manifest or an index: its descriptor, and its bytes as the registry sent them."""

    descriptor: Descriptor
    data: bytes


def fetch_document(
    session: RegistrySession,
    target: str,
    digest: Digest | None = None,
    expected: Descriptor | None = None,
    *,
    any_type: bool = False,
) -> FetchedManifest:
    """The document with this tag or digest; `digest` and `expected` are what is known of it.

    With `any_type` its media type need not be one that pybuild knows. Raises NotFound, InvalidImage, DigestMismatch, and the
    errors of a request.
    """
    where = f"{session.endpoint.name}: manifest {target}"
    limit = session.limits.manifest_bytes
    if expected is not None and expected.size > limit:
        shown = MANIFEST_BYTES.shown(limit)
        raise InvalidImage(f"{where}: {expected.size} bytes exceed the limit of {shown}", hint=MANIFEST_BYTES.hint())
    accept = ACCEPT
    if any_type:
        accept += f", {expected.media_type}" if expected is not None and expected.media_type else ""
        accept += ", */*;q=0.1"
    with session.get(f"manifests/{target}", {"Accept": accept}) as response:
        data = response.read(limit, "a manifest", MANIFEST_BYTES)
        content_type = response.header("Content-Type").partition(";")[0].strip().lower()
        announced = response.header("Docker-Content-Digest")
    if expected is not None and len(data) != expected.size:
        raise DigestMismatch(f"{where}: {len(data)} bytes, its descriptor says {expected.size}")
    if digest is not None:
        _check(data, digest, where)
    if announced:
        try:
            _check(data, Digest.parse(announced), f"{where}, by its Docker-Content-Digest")
        except InvalidImage:
            raise RemoteError(f"{where}: Docker-Content-Digest {printable(announced)} is not a digest") from None
    kind = _media_type(data, content_type, where, any_type=any_type)
    if expected is not None and expected.media_type and expected.media_type != kind:
        raise InvalidImage(f"{where}: it is {kind!r}, its descriptor says {printable(expected.media_type)!r}")
    return FetchedManifest(Descriptor(kind, digest or Digest.of(data), len(data)), data)


def fetch_digest(session: RegistrySession, tag: str) -> Digest | None:
    """The digest that a tag names; None if the registry does not tell it. Raises NotFound, and the errors of a request."""
    item = f"manifest {tag}"
    try:
        with session.send("HEAD", session.url(f"manifests/{tag}"), item, {"Accept": ACCEPT}, accept=(200,)) as response:
            return Digest.parse(response.header("Docker-Content-Digest").strip())
    except (InvalidImage, RequestRefused):
        return None  # reading the document shows what is wrong


def _check(data: bytes, digest: Digest, where: str) -> None:
    found = hashlib.new(digest.algorithm, data).hexdigest()
    if found != digest.hex:
        raise DigestMismatch(f"{where}: expected {digest}, got {digest.algorithm}:{found}")


def _media_type(data: bytes, content_type: str, where: str, *, any_type: bool) -> str:
    """The media type of a document: its Content-Type, or if that is generic, the document's own `mediaType`."""
    known = INDEXES + MANIFESTS
    if content_type in known:
        return content_type
    if content_type.startswith(_SCHEMA_1):
        raise InvalidImage(f"{where}: schema 1 is not supported", hint="push the image again with a newer tool")
    if content_type not in _GENERIC and not any_type:
        raise InvalidImage(f"{where}: unexpected Content-Type {printable(content_type)!r}")
    document = load_object(data, "manifest", limit=MANIFEST_BYTES)
    own = document.get("mediaType")
    if isinstance(own, str) and (own in known or (any_type and content_type in (*_GENERIC, own.lower()))):
        return own
    if content_type not in _GENERIC:
        return content_type
    return MediaType.OCI_INDEX if "manifests" in document else MediaType.OCI_MANIFEST
