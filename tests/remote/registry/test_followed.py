"""A blob is read while it is downloaded: the same bytes, through breaks, and none that were not verified."""

from __future__ import annotations

import hashlib
import io
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pybuild.remote.registry.followed import FollowedDownload, Restarted
from pybuild.store.errors import DigestMismatch, NotFound
from pybuild.values.limits import LAYER_ENTRIES, applied
from tests.remote.registry.test_download import LAYER, breaking
from tests.support.fake_registry import Image, plain, reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.fake_registry import FakeRegistry, Handler, Route


@pytest.fixture
def image(fake: FakeRegistry) -> Image:
    found = Image(LAYER)
    found.serve(fake)
    return found


@contextmanager
def following(fake: FakeRegistry, image: Image, path: Path) -> Iterator[FollowedDownload]:
    with plain(fake).client() as client, open(path, "x+b", buffering=0) as file:
        blob = image.blob
        download = FollowedDownload(lambda on_bytes: client.blob(image.reference(fake), blob, file, on_bytes), file)
        with download:
            yield download


def rest(download: FollowedDownload, size: int = 10_000) -> bytes:
    parts = []
    while data := download.read(size):
        parts.append(data)
    download.finish()
    return b"".join(parts)


@pytest.mark.parametrize("breaks", [[], [1], [70_000, 50_000], [0, 199_999]])
def test_the_reader_sees_nothing_of_breaks(fake: FakeRegistry, image: Image, tmp_path: Path, breaks: list[int]) -> None:
    fake.on(image.blob_path, *[breaking(at) for at in breaks], breaking(len(LAYER)))
    with following(fake, image, tmp_path / "blob") as download:
        assert rest(download) == LAYER
    assert (tmp_path / "blob").read_bytes() == LAYER
    assert len(fake.asked(image.blob_path)) == len(breaks) + 1


def cut_after_reading(read: threading.Event, data: bytes = LAYER) -> Route:
    """Serve the beginning, and break the connection once somebody has read it."""

    def route(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.send(data[:100_000])
        read.wait(60)
        handler.cut()

    return route


def test_the_reader_is_told_if_the_download_begins_again(fake: FakeRegistry, image: Image, tmp_path: Path) -> None:
    read = threading.Event()
    fake.on(image.blob_path, cut_after_reading(read), reply(LAYER))
    with following(fake, image, tmp_path / "blob") as download:
        assert download.read(1) == LAYER[:1]
        read.set()
        with pytest.raises(Restarted):
            rest(download)
        download.finish()
    assert (tmp_path / "blob").read_bytes() == LAYER


def test_a_download_that_began_again_before_it_was_read_is_read(
    fake: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    fake.on(image.blob_path, breaking(5000, ranges=False), reply(LAYER))
    with following(fake, image, tmp_path / "blob") as download:
        download.finish()
        assert rest(download) == LAYER


def test_a_part_of_other_content_restarts_the_download(fake: FakeRegistry, image: Image, tmp_path: Path) -> None:
    """The digest is wrong after a resumption. The bytes before the break were read, and might be the wrong ones."""
    read = threading.Event()
    other = bytes(len(LAYER))
    fake.on(image.blob_path, cut_after_reading(read, other), breaking(len(LAYER)), reply(LAYER))
    with following(fake, image, tmp_path / "blob") as download:
        assert download.read(3) == bytes(3)
        read.set()
        with pytest.raises(Restarted):
            rest(download)
        download.finish()
    assert (tmp_path / "blob").read_bytes() == LAYER


def test_wrong_bytes_have_no_end(fake: FakeRegistry, image: Image, tmp_path: Path) -> None:
    wrong = LAYER[:-1] + b"?"
    fake.on(image.blob_path, reply(wrong))
    got = b""
    with following(fake, image, tmp_path / "blob") as download:
        # The file is emptied before the error is known: a reader that comes in between is sent to the end of the download.
        with pytest.raises((DigestMismatch, Restarted)):
            while True:
                data = download.read(1 << 20)
                assert data
                got += data
        with pytest.raises(DigestMismatch):
            download.finish()
    assert wrong.startswith(got)
    assert (tmp_path / "blob").read_bytes() == b""


def test_the_reader_gets_the_error_of_the_download(fake: FakeRegistry, image: Image, tmp_path: Path) -> None:
    del fake.paths[image.blob_path]
    with following(fake, image, tmp_path / "blob") as download, pytest.raises(NotFound):
        download.read(1)


def downloading(steps: list[object], file: io.BufferedRandom) -> Callable[[Callable[[int], None]], None]:
    """A download that appends bytes, empties the file (None), or raises an error."""

    def download(on_bytes: Callable[[int], None]) -> None:
        on_bytes(0)
        for step in steps:
            if isinstance(step, bytes):
                file.write(step)
                file.flush()
                on_bytes(file.tell())
            elif step is None:
                file.seek(0)
                file.truncate()
                on_bytes(0)
            else:
                assert isinstance(step, BaseException)
                raise step

    return download


def test_without_another_thread_it_is_downloaded_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with (
        open(tmp_path / "blob", "x+b") as file,
        FollowedDownload(downloading([b"one", None, b"two"], file), file) as download,
    ):
        assert rest(download) == b"two"


def test_an_empty_blob_is_at_its_end_at_once(tmp_path: Path) -> None:
    with open(tmp_path / "blob", "x+b") as file, FollowedDownload(downloading([], file), file) as download:
        assert rest(download) == b""


def test_an_error_of_writing_reaches_the_reader(tmp_path: Path) -> None:
    error = OSError(28, "No space left on device")
    with (
        open(tmp_path / "blob", "x+b") as file,
        FollowedDownload(downloading([b"x" * 100, error], file), file) as download,
        pytest.raises(OSError, match="No space"),
    ):
        rest(download)


def test_changed_limits_apply_to_the_download(tmp_path: Path) -> None:
    seen = []
    with (
        applied({"layer-entries": 7}),
        open(tmp_path / "blob", "x+b") as file,
        FollowedDownload(lambda on_bytes: seen.append(LAYER_ENTRIES.value), file) as download,
    ):
        assert rest(download) == b""
    assert seen == [7]


def test_digests_of_the_followed_bytes_are_those_of_the_file(fake: FakeRegistry, image: Image, tmp_path: Path) -> None:
    with following(fake, image, tmp_path / "blob") as download:
        assert hashlib.sha256(rest(download, 1 << 20)).hexdigest() == image.blob.digest.hex
