"""A push asks only for what the repository was not seen to have, and does not rely on that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.events import Event, Pushed
from pybuild.builder.jobs.registry import RegistryAccess
from pybuild.builder.output.push import push
from pybuild.builder.workers.pool import Pool
from pybuild.remote.errors import RemoteError, Unauthorized
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.reference import Reference
from pybuild.store.importing.archive import import_archive
from pybuild.store.objects.images import StoredImage
from pybuild.store.store import Store
from tests.support.fake_registry import reply
from tests.support.tars import entry, tar
from tests.support.upload_registry import UploadRegistry, upload_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.fake_registry import Route, Seen

registry = pytest.fixture(upload_registry)
_REPOSITORY = "team/app"


class _Machine:
    def __init__(self, directory: Path, registry: UploadRegistry) -> None:
        self.store = Store(str(directory / "store"))
        self.name = Reference.parse(f"{registry.host}/{_REPOSITORY}:1")
        self._registry = registry
        self._pool = Pool()
        path = directory / "f.tar"
        path.write_bytes(tar(entry(b"f", data=b"x" * 1000)))
        ((digest, _),) = import_archive(self.store, str(path), Reference.parse("app:1"), 7)
        self.image: StoredImage = self.store.images.get(digest)

    @property
    def layer(self) -> Digest:
        return self.image.manifest.layers[0].digest

    def push(self, tag: str) -> tuple[list[str], int]:
        """Push under a tag: the requests and the bytes of blobs that were sent."""
        self._registry.seen.clear()
        events: list[Event] = []
        name = Reference.parse(f"{self.name.familiar.rpartition(':')[0]}:{tag}")
        push(self.store, self._pool, self.image, [name], RegistryAccess((), True), events.append)
        (sent,) = (event.sent for event in events if isinstance(event, Pushed))
        seen = [f"{one.method} {one.path.removeprefix(f'/v2/{_REPOSITORY}/')}" for one in self._registry.requests()]
        return seen, sent

    def close(self) -> None:
        self._pool.stop()
        self.store.close()


@pytest.fixture
def machine(tmp_path: Path, registry: UploadRegistry) -> Iterator[_Machine]:
    made = _Machine(tmp_path, registry)
    yield made
    made.close()


def test_blobs_that_were_seen_in_the_repository_are_not_asked_for(machine: _Machine, registry: UploadRegistry) -> None:
    registry.blobs[_REPOSITORY] = {str(machine.layer): b"layer"}
    machine.store.places.add([machine.layer], machine.name, 7)
    config = machine.image.manifest.config
    requests, sent = machine.push("1")
    assert [one for one in requests if one.startswith("HEAD")] == ["HEAD manifests/1", f"HEAD blobs/{config.digest}"]
    assert sent == config.size
    assert machine.push("2") == (["HEAD manifests/2", "PUT manifests/2"], 0)  # it has seen all of it itself


def test_another_repository_says_nothing(machine: _Machine, registry: UploadRegistry) -> None:
    machine.store.places.add([machine.layer], Reference.parse(f"{registry.host}/team/other:1"), 7)
    requests, _ = machine.push("1")
    assert f"HEAD blobs/{machine.layer}" in requests


def test_a_blob_that_has_gone_meanwhile_is_sent(machine: _Machine, registry: UploadRegistry) -> None:
    machine.push("1")
    registry.blobs[_REPOSITORY].pop(str(machine.layer))
    requests, sent = machine.push("2")
    assert requests.count("PUT manifests/2") == 2
    assert sent == machine.image.manifest.layers[0].size
    assert str(machine.layer) in registry.blobs[_REPOSITORY]
    assert "2" in registry.manifests[_REPOSITORY]


@pytest.mark.parametrize(("status", "error", "asks"), [(400, RemoteError, True), (403, Unauthorized, False)])
def test_a_manifest_that_is_refused_for_another_reason(
    machine: _Machine, registry: UploadRegistry, status: int, error: type[RemoteError], asks: bool
) -> None:
    machine.push("1")

    def refuse(seen: Seen) -> Route | None:
        return reply(b'{"errors":[{"code":"MANIFEST_INVALID"}]}', status) if seen.method == "PUT" else None

    registry.intercept = refuse
    with pytest.raises(error):
        machine.push("2")
    assert len(registry.requests("PUT")) == 1
    assert [f"/v2/{_REPOSITORY}/blobs/{machine.layer}"] * asks == [
        seen.path for seen in registry.requests("HEAD") if str(machine.layer) in seen.path
    ]
