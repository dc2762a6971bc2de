"""Blobs: verified while they arrive, resumed after a break."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from typing import TYPE_CHECKING

import pytest

from pybuild.remote.errors import RemoteError, TooSlow, Unreachable
from pybuild.remote.http.connections import Watch
from pybuild.remote.http.site import RemoteLimits
from pybuild.store.errors import DigestMismatch, NotFound
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.oci_manifest import Descriptor
from tests.support.fake_registry import FakeRegistry, Image, Setup, plain, reply

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from tests.support.fake_registry import Handler, Route

LAYER = bytes(i * i % 251 for i in range(200_000))


@pytest.fixture
def image() -> Image:
    return Image(LAYER)


def fetch(setup: Setup, fake: FakeRegistry, image: Image, descriptor: Descriptor | None = None) -> bytes:
    with io.BytesIO(b"left over from before") as file, setup.client() as client:
        try:
            client.blob(image.reference(fake), descriptor or image.blob, file)
        except Exception:
            assert file.getvalue() == b""
            raise
        return file.getvalue()


def breaking(at: int, data: bytes = LAYER, *, etag: str = "", ranges: bool = True) -> Route:
    """Serve the requested part, and break the connection after `at` bytes."""

    def route(handler: Handler) -> None:
        first = 0
        asked = handler.headers.get("Range", "")
        if ranges and asked and handler.headers.get("If-Range", etag) == etag:
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        else:
            handler.send_response(200)
        handler.send_header("Content-Length", str(len(data) - first))
        if etag:
            handler.send_header("ETag", etag)
        handler.end_headers()
        handler.send(data[first : first + at])
        if first + at < len(data):
            handler.cut()

    return route


@pytest.mark.parametrize("size", [0, 1, 65536, 200_000])
def test_a_blob_is_written_and_counted(fake: FakeRegistry, size: int) -> None:
    image = Image(LAYER[:size])
    image.serve(fake)
    counts: list[int] = []
    with io.BytesIO() as file, plain(fake).client() as client:
        client.blob(image.reference(fake), image.blob, file, counts.append)
        assert file.getvalue() == LAYER[:size]
    assert counts == sorted(counts)
    assert counts[-1] == size


def test_a_blob_can_have_a_sha512_digest(fake: FakeRegistry, image: Image) -> None:
    descriptor = Descriptor(MediaType.OCI_LAYER, Digest("sha512", hashlib.sha512(LAYER).hexdigest()), len(LAYER))
    fake.on(image.path("blobs", descriptor.digest), reply(LAYER))
    assert fetch(plain(fake), fake, image, descriptor) == LAYER


def test_a_blob_in_chunks_of_one_byte_is_read(fake: FakeRegistry) -> None:
    image = Image(LAYER[:5000])

    def route(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.send(b"".join(b"1\r\n" + image.layer[i : i + 1] + b"\r\n" for i in range(5000)) + b"0\r\n\r\n")

    fake.on(image.blob_path, route)
    assert fetch(plain(fake), fake, image) == image.layer


WRONG: dict[str, tuple[Route, type[Exception], str]] = {
    "other content": (reply(LAYER[::-1]), DigestMismatch, "the content has the digest sha256:"),
    "shorter than promised": (reply(LAYER[:-1]), DigestMismatch, "199999 bytes instead of 200000"),
    "longer than promised": (reply(LAYER + b"x"), DigestMismatch, "200001 bytes instead of"),
    "longer, unannounced": (reply(LAYER + b"x", length=None), DigestMismatch, "more than the 200000 bytes"),
    "shorter, unannounced": (reply(LAYER[:-1], length=None), Unreachable, "ended after 199999 of 200000"),
    "length too large": (reply(LAYER, length=200_001), DigestMismatch, "200001 bytes instead of"),
    "a part unasked": (reply(LAYER, 206), RemoteError, "status 206"),
    "compressed unasked": (reply(LAYER, headers={"Content-Encoding": "gzip"}), RemoteError, "unexpected Content-Encoding gzip"),
    "missing": (reply(status=404), NotFound, "there is no blob sha256:"),
    "forbidden": (reply(b'{"errors":[{"message":"not \\u001b[31myours"}]}', 403), RemoteError, "forbidden: not"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_content_is_refused_and_the_file_is_empty(fake: FakeRegistry, image: Image, case: str) -> None:
    route, kind, text = WRONG[case]
    fake.on(image.blob_path, route)
    with pytest.raises(kind, match=text) as caught:
        fetch(plain(fake), fake, image)
    assert fake.host in str(caught.value)
    assert str(caught.value).isprintable()


def test_an_invalid_content_length_is_ignored(fake: FakeRegistry, image: Image) -> None:
    fake.on(image.blob_path, reply(LAYER, length=None, headers={"Content-Length": "2e5"}))
    assert fetch(plain(fake), fake, image) == LAYER


def test_an_endless_body_is_cut_off_after_one_byte_too_many(fake: FakeRegistry, image: Image) -> None:
    sent = 0

    def route(handler: Handler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        while handler.send(b"x" * 65536):
            sent += 65536
        handler.close_connection = True

    fake.on(image.blob_path, route)
    with pytest.raises(DigestMismatch, match="more than the 200000 bytes"):
        fetch(plain(fake), fake, image)
    assert sent < 20 << 20  # what the kernel buffers


@pytest.mark.parametrize("line", [b"0" * 70_000, b"x\r\n", b"-1\r\n", b"ffffffffffffffffff\r\n"])
def test_malformed_chunks_are_an_error(fake: FakeRegistry, image: Image, line: bytes) -> None:
    def route(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.send(line)
        handler.cut()

    fake.on(image.blob_path, route)
    with pytest.raises(RemoteError):
        fetch(plain(fake), fake, image)


@pytest.mark.parametrize("at", [0, 1, 4095, 65536, 131_072, 199_999])
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_a_broken_download_is_resumed(fake: FakeRegistry, image: Image, at: int, ranges: bool) -> None:
    fake.on(image.blob_path, breaking(at, ranges=ranges), breaking(len(LAYER), ranges=ranges))
    setup = plain(fake)
    assert fetch(setup, fake, image) == LAYER
    assert setup.waits == [1.0]
    first, second = fake.asked(image.blob_path)
    assert "range" not in first.headers
    # The bytes in flight at the break may be lost, so a part begins at most where the break was.
    asked = int(second.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
    assert asked <= at


def test_short_writes_are_continued(fake: FakeRegistry, image: Image) -> None:
    class Unbuffered(io.BytesIO):
        def write(self, data: ReadableBuffer, /) -> int:
            return super().write(memoryview(data)[:1000])

    image.serve(fake)
    with Unbuffered() as file, plain(fake).client() as client:
        client.blob(image.reference(fake), image.blob, file)
        assert file.getvalue() == LAYER


def test_a_full_disk_is_an_error_at_once(fake: FakeRegistry, image: Image) -> None:
    class Full(io.BytesIO):
        def write(self, data: ReadableBuffer, /) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    image.serve(fake)
    with Full() as file, plain(fake).client() as client:
        with pytest.raises(OSError, match="No space left on device"):
            client.blob(image.reference(fake), image.blob, file)
        assert file.getvalue() == b""
    assert len(fake.asked(image.blob_path)) == 1


def test_progress_restarts_if_the_whole_blob_is_sent_again(fake: FakeRegistry, image: Image) -> None:
    fake.on(image.blob_path, breaking(131_072, ranges=False), breaking(len(LAYER), ranges=False))
    counts: list[int] = []
    with io.BytesIO() as file, plain(fake).client() as client:
        client.blob(image.reference(fake), image.blob, file, counts.append)
    assert 0 in counts
    assert counts[-1] == len(LAYER)


def test_five_tries_each_wait_twice_as_long(fake: FakeRegistry, image: Image) -> None:
    fake.on(image.blob_path, breaking(10_000))
    setup = plain(fake)
    with pytest.raises(Unreachable, match="5 times in a row"):
        fetch(setup, fake, image)
    assert setup.waits == [1.0, 2.0, 4.0, 8.0]
    assert len(fake.asked(image.blob_path)) == 5


def part(data: bytes, content_range: str, status: int = 206) -> Route:
    return reply(data, status, {"Content-Range": content_range})


MISFITS: dict[str, Route] = {
    "another part": part(LAYER[50_000:], "bytes 50000-199999/200000"),
    "another size": part(LAYER[100_000:], "bytes 100000-199999/300000"),
    "no range at all": reply(LAYER[100_000:], 206),
    "nonsense": part(LAYER[100_000:], "bytes 100000-abc/\x7f"),
    "not satisfiable": reply(b"", 416, {"Content-Range": "bytes */7"}),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_wrong_part_restarts_the_download(fake: FakeRegistry, image: Image, case: str) -> None:
    fake.on(image.blob_path, reply(LAYER[:100_000], length=len(LAYER)), MISFITS[case], reply(LAYER))
    assert fetch(plain(fake), fake, image) == LAYER
    ranges = [seen.headers.get("range") for seen in fake.asked(image.blob_path)]
    assert ranges == [None, "bytes=100000-", None]


def test_wrong_content_after_a_resumption_restarts_the_download_once(fake: FakeRegistry, image: Image) -> None:
    other = part(LAYER[100_000:][::-1], "bytes 100000-199999/200000")
    fake.on(image.blob_path, reply(LAYER[:100_000], length=len(LAYER)), other, reply(LAYER))
    assert fetch(plain(fake), fake, image) == LAYER


def test_wrong_content_twice_is_an_error(fake: FakeRegistry, image: Image) -> None:
    other = part(LAYER[100_000:][::-1], "bytes 100000-199999/200000")
    fake.on(image.blob_path, reply(LAYER[:100_000], length=len(LAYER)), other, reply(LAYER[::-1]))
    with pytest.raises(DigestMismatch, match="the content has the digest"):
        fetch(plain(fake), fake, image)


def test_a_resumption_asks_for_the_same_version(fake: FakeRegistry, image: Image) -> None:
    fake.on(image.blob_path, breaking(65_536, etag='"a"'), breaking(len(LAYER), etag='"b"'))
    assert fetch(plain(fake), fake, image) == LAYER
    assert fake.seen[1].headers["if-range"] == '"a"'


def test_a_weak_etag_promises_nothing(fake: FakeRegistry, image: Image) -> None:
    fake.on(image.blob_path, breaking(65_536, etag='W/"a"'), breaking(len(LAYER)))
    assert fetch(plain(fake), fake, image) == LAYER
    assert "if-range" not in fake.seen[1].headers


def test_a_body_slower_than_the_lowest_rate_is_an_error(fake: FakeRegistry, image: Image) -> None:
    def drip(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(LAYER)))
        handler.end_headers()
        handler.send(LAYER[:1])
        handler.until_closed()

    fake.on(image.blob_path, drip)
    limits = RemoteLimits(rate_seconds=0.05)
    with pytest.raises(TooSlow, match=r"sent less than 1024 bytes a second for 0.05 s"):
        fetch(plain(fake, limits=limits), fake, image)


def test_a_blob_has_a_deadline(fake: FakeRegistry, image: Image) -> None:
    def stall(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.send(LAYER[:100_000])
        handler.until_closed()

    fake.on(image.blob_path, stall)
    limits = RemoteLimits(blob_seconds=0.05, blob_rate=1 << 40)
    with pytest.raises(TooSlow, match=r"[0-9]+ of 200000 bytes arrived in time"):
        fetch(plain(fake, limits=limits), fake, image)


def test_a_pause_within_the_lowest_rate_is_allowed() -> None:
    """The lowest rate is measured over a window, so a pause alone is not an error."""
    now = 0.0
    watch = Watch(RemoteLimits(), "registry", lambda: now)
    watch.begin_body(1 << 30)
    for _ in range(10):
        watch.add_bytes(60 * 1024)
        now += 60
        assert watch.read_timeout() == 60
    watch.add_bytes(60 * 1024 - 1)
    now += 60
    with pytest.raises(TooSlow):
        watch.read_timeout()
