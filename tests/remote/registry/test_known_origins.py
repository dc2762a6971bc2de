"""Which scheme a registry speaks is found out once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pybuild.remote.errors import Unreachable
from pybuild.remote.http.urls import Origin
from pybuild.remote.registry.known_origins import KnownOrigins
from tests.support.fake_registry import LINUX, Image, Setup

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fake_registry import FakeRegistry

IMAGE = Image()
HTTPS, HTTP, OTHER = (Origin(scheme, "127.0.0.1", port) for scheme, port in (("https", 5), ("http", 5), ("http", 6)))


def fetch(fake: FakeRegistry, known: KnownOrigins, *, verify: bool = True) -> bytes:
    with Setup(options={"origins": known, "tls_verify": verify}).client() as client:
        return client.manifest(IMAGE.reference(fake), LINUX).data


def test_an_origin_in_the_file_decides_between_those_that_are_allowed(tmp_path: Path) -> None:
    known = KnownOrigins(str(tmp_path / "origins"))
    assert known.find((HTTPS, HTTP)) is None
    known.add(HTTP)
    assert known.find((HTTPS, HTTP)) == KnownOrigins(str(tmp_path / "origins")).find((HTTPS, HTTP)) == HTTP
    assert known.find((HTTPS,)) is None
    assert known.find((OTHER,)) is None


@pytest.mark.parametrize("path", ["", "missing/origins"])
def test_without_a_file_nothing_is_noted(tmp_path: Path, path: str) -> None:
    known = KnownOrigins(path and str(tmp_path / path))
    known.add(HTTP)
    assert known.find((HTTP,)) is None


@pytest.mark.parametrize("verify", [True, False])
def test_the_second_client_does_not_try_tls(fake: FakeRegistry, tmp_path: Path, *, verify: bool) -> None:
    IMAGE.serve(fake)
    known = KnownOrigins(str(tmp_path / "origins"))
    for _ in range(3):
        assert fetch(fake, known, verify=verify) == IMAGE.manifest
    assert fake.hellos == 1


def test_a_registry_with_tls_is_not_probed_again(secure: FakeRegistry, tmp_path: Path) -> None:
    IMAGE.serve(secure)
    known = KnownOrigins(str(tmp_path / "origins"))
    for _ in range(3):
        assert fetch(secure, known, verify=False) == IMAGE.manifest
    assert len(secure.asked("/v2/")) == 1


def test_what_did_not_answer_is_not_noted(secure: FakeRegistry, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="not trusted"):
        fetch(secure, KnownOrigins(str(tmp_path / "origins")))
    assert not (tmp_path / "origins").exists()
