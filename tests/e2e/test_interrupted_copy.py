"""A copy between registries that breaks or is interrupted publishes nothing, and the next one sends what is missing."""

from __future__ import annotations

import itertools
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.transfer.copy_image import copy_image
from pybuild.builder.transfer.places import parse_place
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.values import limits
from pybuild.values.errors import PybuildError
from tests.support.fake_registry import Image, fake_registry, index, reply
from tests.support.upload_registry import UploadRegistry, upload_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.cli import Pybuild
    from tests.support.fake_registry import FakeRegistry, Route, Seen

target = pytest.fixture(upload_registry)
FIRST, SECOND = Image(), Image(layer=b"other" * 1000)
INDEX = index(*(image.descriptor.to_json() for image in (FIRST, SECOND)))


@pytest.fixture
def source() -> Iterator[FakeRegistry]:
    """An index of two images."""
    with fake_registry("127.0.0.2") as found:
        for image in (FIRST, SECOND):
            image.serve(found)
        found.on(FIRST.path("manifests", "1"), reply(INDEX, headers={"Content-Type": MediaType.OCI_INDEX}))
        yield found


def places(source: FakeRegistry, target: UploadRegistry) -> tuple[str, str]:
    return f"docker://{source.host}/team/app:1", f"docker://{target.host}/team/app:1"


def published(target: UploadRegistry) -> bool:
    """Whether the registry shows the image. It refuses what names a blob or a manifest that it lacks."""
    return "1" in target.manifests.get("team/app", {})


def copy(source: FakeRegistry, target: UploadRegistry, root: Path) -> Digest:
    """The copy as the command does it, in this process and its workers."""
    one, other = map(parse_place, places(source, target))
    return copy_image(str(root), one, other, None, {}, lambda _: None)


@pytest.mark.parametrize("when", ["lose", "lose_answer"])
def test_the_connection_dies_at_any_request(
    source: FakeRegistry, target: UploadRegistry, tmp_path: Path, when: str
) -> None:
    for died in itertools.count(1, 3):  # a request in three; the two ways and the order of workers reach the others
        target.seen.clear()
        target.blobs.clear()
        target.manifests.clear()
        setattr(target, when, lambda _, at=died: len(target.seen) == at)
        failed = False
        try:
            with limits.applied({"retries": 1}):
                copy(source, target, tmp_path)
        except PybuildError:
            failed = True
        setattr(target, when, lambda _: False)
        if not failed and died > len(target.seen):
            break
        last = target.seen[-1]
        if failed:
            assert published(target) == (when == "lose_answer" and last.path == "/v2/team/app/manifests/1" and last.method == "PUT")
        there = set(target.blobs.get("team/app", {}).values())
        target.seen.clear()
        assert copy(source, target, tmp_path) == Digest.of(INDEX)
        assert target.manifests["team/app"]["1"] == INDEX
        assert not there & {seen.body for seen in target.requests("PUT")}, f"request {died}: sent twice"
    assert died > 15
    assert list(tmp_path.iterdir()) == []


def test_a_signal_leaves_no_name(
    source: FakeRegistry, target: UploadRegistry, pybuild: Pybuild, tmp_path: Path
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def stop(seen: Seen) -> Route | None:
        if seen.method == "PUT" and "manifests" in seen.path:
            begun.set()
            ended.wait(60)
            return reply(status=500)
        return None

    target.intercept = stop
    command = [*pybuild.command, "copy", *places(source, target)]
    process = subprocess.Popen(command, env={**pybuild.env(), "TMPDIR": str(tmp_path)}, stderr=subprocess.PIPE)
    before = set(tmp_path.iterdir())
    assert begun.wait(60)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    ended.set()
    assert process.returncode == 130, err
    assert b"Traceback" not in err
    assert not published(target)
    assert set(tmp_path.iterdir()) <= before
    target.intercept = lambda seen: None
    assert pybuild("copy", *places(source, target)).out.strip() == str(Digest.of(INDEX))
    assert published(target)
