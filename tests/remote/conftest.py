"""Fake registries for the tests of remote/."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.fake_registry import FakeRegistry, fake_registry
from tests.support.registry import make_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    """A registry on 127.0.0.1."""
    with fake_registry() as found:
        yield found


@pytest.fixture
def stranger() -> Iterator[FakeRegistry]:
    """Another server, on 127.0.0.2."""
    with fake_registry("127.0.0.2") as found:
        yield found


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a server's certificate and its authority, ca.crt."""
    directory = tmp_path_factory.mktemp("certificate")
    make_certificate(directory, "DNS:localhost,IP:127.0.0.1,IP:127.0.0.2")
    return directory


@pytest.fixture
def secure(certificate: Path) -> Iterator[FakeRegistry]:
    """A registry with TLS on 127.0.0.1."""
    with fake_registry(certificate=certificate) as found:
        yield found
