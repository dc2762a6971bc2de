"""A push that breaks or is interrupted publishes nothing, and the next one sends what is missing."""

from __future__ import annotations

import itertools
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import BASE, Pybuild, write_context
from tests.support.fake_registry import reply
from tests.support.upload_registry import UploadRegistry, upload_registry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fake_registry import Route, Seen

registry = pytest.fixture(upload_registry)


@pytest.fixture
def name(registry: UploadRegistry, pybuild: Pybuild, tmp_path: Path) -> str:
    """An image of three blobs in the store."""
    name = f"{registry.host}/team/app:1"
    pybuild("-t", name, write_context(tmp_path / "c", f"FROM {BASE}\nCOPY Buildfile /\n"))
    return name


def published(registry: UploadRegistry) -> bool:
    """Whether the registry shows the image. It refuses a manifest without its blobs."""
    return bool(registry.manifests.get("team/app"))


@pytest.mark.parametrize("when", ["lose", "lose_answer"])
def test_the_connection_dies_at_any_request(
    registry: UploadRegistry, pybuild: Pybuild, name: str, when: str
) -> None:
    for died in itertools.count():
        registry.seen.clear()
        registry.blobs.clear()
        registry.manifests.clear()
        setattr(registry, when, lambda _, at=died + 1: len(registry.seen) == at)
        done = pybuild.run("push", name, PYBUILD_LIMIT_RETRIES="1")
        setattr(registry, when, lambda _: False)
        if done.status == 0:
            break
        last = registry.seen[-1]
        assert done.status == 1 and "Traceback" not in done.err, done.err
        assert published(registry) == (when == "lose_answer" and (last.method, last.path) == ("PUT", "/v2/team/app/manifests/1"))
        pybuild.assert_whole()
        there = set(registry.blobs.get("team/app", {}).values())
        registry.seen.clear()
        pybuild("push", name)
        assert published(registry)
        assert not there & {seen.body for seen in registry.requests("PUT")}, f"request {died + 1}: sent twice"
    assert published(registry)
    assert died == len(registry.seen) > 10


def test_a_push_by_a_signal_ends_without_a_name(registry: UploadRegistry, pybuild: Pybuild, name: str) -> None:
    begun, ended = threading.Event(), threading.Event()

    def stop(seen: Seen) -> Route | None:
        if seen.method == "PUT":
            begun.set()
            ended.wait(60)
            return reply(status=500)
        return None

    registry.intercept = stop
    process = subprocess.Popen([*pybuild.command, "push", name], env=pybuild.env(), stderr=subprocess.PIPE)
    assert begun.wait(60)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    ended.set()
    assert process.returncode == 130, err
    assert b"Traceback" not in err
    assert not published(registry)
    pybuild.assert_whole()
    registry.intercept = lambda seen: None
    pybuild("push", name)
    assert published(registry)


def test_all_workers_of_a_push_know_that_the_registry_speaks_http(
    registry: UploadRegistry, pybuild: Pybuild, name: str
) -> None:
    pybuild("push", name)
    assert published(registry)
    assert len(registry.requests("HEAD")) > 1  # in more than one job
    assert registry.hellos == 1
    assert not list((pybuild.root / "ingest").iterdir())


def test_a_push_of_what_is_there_asks_little(registry: UploadRegistry, pybuild: Pybuild, name: str) -> None:
    pybuild("push", name)
    registry.seen.clear()
    pybuild("push", name)
    assert [seen.method for seen in registry.requests()] == ["HEAD"]
    assert len(registry.seen) <= 2  # and one to find out whether it speaks https
    # Another tag: the manifest by its new tag, each blob, and the manifest.
    registry.seen.clear()
    pybuild("push", name, name.replace(":1", ":2"))
    assert [seen.method for seen in registry.requests()] == ["HEAD", "HEAD", "HEAD", "HEAD", "PUT"]
