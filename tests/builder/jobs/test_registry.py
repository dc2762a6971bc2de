"""The jobs that talk to registries, and how blobs are divided among them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybuild.builder.jobs.push import OutgoingBlob
from pybuild.builder.jobs.registry import FetchImage, RegistryAccess
from pybuild.builder.sources.registry_access import registry_access
from pybuild.builder.workers.shares import shares
from pybuild.store.objects.ingest import Ingest


def test_credential_helpers_get_the_whole_environment(tmp_path: Path) -> None:
    environ = {"HOME": "/h", "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/bus", "AWS_PROFILE": "work"}
    with Ingest(str(tmp_path)) as ingest:
        assert dict(registry_access(environ, ingest, tls_verify=True).environ) == environ


def test_the_environment_is_not_shown() -> None:
    access = RegistryAccess((("AWS_SECRET_ACCESS_KEY", "secret"),), tls_verify=True)
    assert "secret" not in repr(FetchImage(access, "a.test/b", "linux/amd64", "", "/path", "/path"))


MIB = 1 << 20


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([10], [[10]]),
        ([30 * MIB, 2_000], [[30 * MIB, 2_000]]),  # an image of one layer and its config: one worker
        ([30 * MIB, 20 * MIB, 2_000], [[30 * MIB], [20 * MIB, 2_000]]),
        ([9 * MIB, 8 * MIB, 7 * MIB, 6 * MIB, 5 * MIB], [[9 * MIB], [8 * MIB], [7 * MIB], [6 * MIB, 5 * MIB]]),
    ],
)
def test_blobs_are_divided_evenly_among_workers(sizes: list[int], expected: list[list[int]]) -> None:
    blobs = [OutgoingBlob(f"sha256:{number}", size, f"/{number}", "") for number, size in enumerate(sizes)]
    assert [[blob.size for blob in share] for share in shares(blobs)] == expected
