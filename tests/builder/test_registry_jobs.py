"""What the workers that talk to registries are given."""

from __future__ import annotations

from builder.pull import registry_access
from builder.workers.codec import decode, encode
from builder.workers.registry_jobs import FetchManifest, RegistryAccess


def test_the_whole_environment_is_there_for_credential_helpers() -> None:
    environ = {"HOME": "/h", "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/bus", "AWS_PROFILE": "work"}
    assert dict(registry_access(environ, tls_verify=True).environ) == environ


def test_the_environment_is_not_shown() -> None:
    access = RegistryAccess((("AWS_SECRET_ACCESS_KEY", "secret"),), tls_verify=True)
    assert "secret" not in repr(FetchManifest(access, "a.test/b", "linux", "amd64", "", "/path"))


def test_a_job_arrives_as_it_was_sent() -> None:
    job = FetchManifest(RegistryAccess((("A", "b\udcff"),), False), "a.test/b", "linux", "arm", "v7", "/path")
    assert decode(FetchManifest, encode(job)) == job
