"""The WWW-Authenticate headers of a registry's 401, one in a line."""

from __future__ import annotations

from pybuild.remote.registry.challenges import Challenge, parse_challenges
from tests.fuzz.target import FuzzTarget


def read(data: bytes) -> bool:
    """Challenges that are written with every parameter in quotes are read back as the same ones."""
    headers = data.decode("latin-1").split("\n")
    found = parse_challenges(headers)
    assert parse_challenges(headers) == found
    written = [_written(challenge) for challenge in found]
    if sum(map(len, written)) < 16 << 10:
        assert parse_challenges(written) == found
        assert parse_challenges([", ".join(written)]) == found
    return bool(found)


def _written(challenge: Challenge) -> str:
    values = (
        '{}="{}"'.format(name, value.replace("\\", "\\\\").replace('"', '\\"'))
        for name, value in challenge.parameters.items()
    )
    return f"{challenge.scheme} {', '.join(values)}".strip()


TARGET = FuzzTarget(
    read,
    seeds=(
        b'Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push"',
        b"Basic realm=x\nNegotiate a87421000492aa874209af8bc028==, Bearer realm=y , error=\"a\\\"b\\\\\"",
        b"Basic, Digest realm=x, qop=\"auth, auth-int\",, Custom",
        b'Bearer realm="unfinished',
    ),
    words=(b"Bearer ", b"Basic ", b"realm=", b'="', b'\\"', b'",', b", ", b"==", b"\t", b"\xa0", b"\x0b", b"~"),
)  # fmt: skip
