"""The worker that is started before there is a job for it: when, and what becomes of it."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.build import BuildRequest, build
from pybuild.builder.cache_places import CacheImport, LocalCache, RegistryCache
from pybuild.builder.jobs.push import FindMissing, MissingParts
from pybuild.builder.jobs.registry import RegistryAccess
from pybuild.builder.options import BuildOptions
from pybuild.builder.workers.pool import Pool
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.reference import Reference
from pybuild.store.store import Store
from tests.support.processes import descendants, descendants_with
from tests.support.stored import add_record
from tests.support.upload_registry import UploadRegistry, upload_registry

if TYPE_CHECKING:
    from pybuild.builder.cache_places import RegistryCache as Place

registry = pytest.fixture(upload_registry)
_NOWHERE = RegistryCache(Reference.parse("registry.invalid/app:cache"))


def _workers() -> list[str]:
    return [one.command for one in descendants(os.getpid()) if "_worker import main" in one.command]


def _ask(pool: Pool, registry: UploadRegistry) -> MissingParts:
    digest = str(Digest.of(b"manifest"))
    return pool.run(FindMissing(RegistryAccess((), True), f"{registry.host}/app", ("1",), digest, "type", (), ()))


def test_it_does_the_first_job(registry: UploadRegistry) -> None:
    with Pool() as pool:
        pool.start_ahead()
        assert _ask(pool, registry) == MissingParts(("1",), ())
        (worker,) = _workers()
        assert "registry_worker" in worker
    assert _workers() == []


def test_if_it_was_killed_another_one_does(registry: UploadRegistry) -> None:
    with Pool() as pool:
        pool.start_ahead()
        (worker,) = (one for one in descendants_with(os.getpid(), "registry_worker") if "registry_worker" in one.command)
        signal.pidfd_send_signal(worker.fd, signal.SIGKILL)
        select.select([worker.fd], [], [])
        assert _ask(pool, registry) == MissingParts(("1",), ())
        assert not any("registry_worker" in one for one in _workers())


@pytest.mark.parametrize(
    ("place", "knows_steps", "started"),
    [(None, False, 0), (_NOWHERE, False, 1), (_NOWHERE, True, 0), (LocalCache("/nowhere"), False, 0)],
)
def test_it_is_started_for_a_cache_that_will_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Place | LocalCache | None, knows_steps: bool, started: int
) -> None:
    starts: list[Pool] = []

    def start_ahead(pool: Pool) -> None:
        starts.append(pool)

    monkeypatch.setattr(Pool, "start_ahead", start_ahead)
    (tmp_path / "Dockerfile").write_text("FROM scratch\nLABEL a=b\n")
    options = BuildOptions(cache_from=() if place is None else (CacheImport(place),))
    with Store(str(tmp_path / "store")) as store:
        if knows_steps:
            add_record(store, "a key", None, 1)
        build(BuildRequest(str(tmp_path), None, options), store, lambda _: None)
    assert len(starts) == started
