"""The name of an image, as recipes, command lines, archives and registries give it."""

from __future__ import annotations

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.reference import MAX_LENGTH, Reference
from tests.fuzz.target import FuzzTarget, check_refusal


def read(data: bytes) -> bool:
    """The full and the short form of a name are names of the same image."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        found = Reference.parse(text)
    except InvalidImage as error:
        return check_refusal(error)
    assert Reference.parse(str(found)) == found
    assert Reference.parse(found.familiar) == found
    assert str(found).isascii() and str(found).isprintable()
    assert len(found.domain) + 1 + len(found.path) <= MAX_LENGTH
    assert not {"", ".", ".."} & set(found.path.split("/"))
    named = found.with_default_tag()
    assert named.with_default_tag() == named and (named.tag is not None or named.digest is not None)
    return True


TARGET = FuzzTarget(
    read,
    seeds=(
        b"debian", b"debian:12", b"docker.io/library/debian:12-slim", b"ghcr.io/some/thing__x/y:1.0",
        b"localhost:5000/team/app@sha256:" + b"0a" * 32, b"[::1]:5000/x@sha512:" + b"f0" * 64, b"index.docker.io/a/b",
        b"HOST/x", b"scratch", b"0a" * 32,
    ),
    words=(b"docker.io/", b"index.docker.io/", b"library/", b"localhost", b"@sha256:", b"@sha512:", b"scratch", b"0a" * 32),
    longest=700,
)  # fmt: skip
