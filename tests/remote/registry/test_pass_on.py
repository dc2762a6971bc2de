"""Blobs from one registry to another, neither of which can be trusted."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

from pybuild.remote.errors import RemoteError, TooSlow, Unreachable
from pybuild.remote.http.site import RemoteLimits
from pybuild.remote.registry.config import RegistrySettings
from pybuild.remote.registry.upload import UploadOutcome
from pybuild.store.errors import DigestMismatch, InvalidImage, NotFound
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.oci_manifest import Descriptor
from pybuild.store.formats.reference import Reference
from tests.support.fake_registry import FakeRegistry, Image, Setup, fake_registry, index, reply
from tests.support.upload_registry import UploadRegistry, upload_registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pybuild.remote.registry.blob_content import BlobContent
    from tests.support.fake_registry import Handler, Route, Seen

target = pytest.fixture(upload_registry)
CHUNK = 200_000
CONTENT = random.Random(2).randbytes(700_000)  # three chunks and a half
BLOB = Descriptor("", Digest.of(CONTENT), len(CONTENT))
PATH = f"/v2/team/app/blobs/{BLOB.digest}"


@pytest.fixture
def origin() -> Iterator[FakeRegistry]:
    with fake_registry("127.0.0.2") as found:
        found.on(PATH, part_of(CONTENT))
        yield found


def part_of(content: bytes, cut: int | None = None) -> Route:
    """Answer a request with Range; break the connection after `cut` bytes of the body."""

    def route(handler: Handler) -> None:
        first = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        handler.send_response(206 if first else 200)
        handler.send_header("Content-Length", str(len(content) - first))
        if first:
            handler.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        handler.end_headers()
        handler.send(content[first : None if cut is None else first + cut])
        if cut is not None:
            handler.cut()

    return route


class Pair:
    """A client of the origin and a writer to the target."""

    def __init__(self, origin: FakeRegistry, target: UploadRegistry, **options: object) -> None:
        settings = {one.host: RegistrySettings(plain_http=True) for one in (origin, target)}
        settings.update(options.pop("settings", {}))  # type: ignore[call-overload]
        self.setup = Setup(settings, **options)  # type: ignore[arg-type]
        self.source = Reference.parse(f"{origin.host}/team/app:1")
        self.repository = Reference.parse(f"{target.host}/team/app")

    def copy(self, blob: Descriptor = BLOB, chunk: int = CHUNK, **options: object) -> UploadOutcome:
        with self.setup.client() as client, self.setup.writer(self.repository, chunk=chunk, **options) as writer:

            def send(content: BlobContent) -> UploadOutcome:
                return writer.put_blob(content)

            return client.pass_on(self.source, blob, send)


def arrived(target: UploadRegistry) -> set[bytes]:
    return set(target.blobs.get("team/app", {}).values())


def ranges(origin: FakeRegistry) -> list[str]:
    return [seen.headers.get("range", "") for seen in origin.asked(PATH)]


@pytest.mark.parametrize("chunk", [CHUNK, 1 << 20], ids=["chunks", "whole"])
def test_a_blob_is_read_once(origin: FakeRegistry, target: UploadRegistry, chunk: int) -> None:
    assert Pair(origin, target).copy(chunk=chunk) is UploadOutcome.SENT
    assert arrived(target) == {CONTENT}
    assert ranges(origin) == [""]


@pytest.mark.parametrize("chunk", [CHUNK, 1 << 20], ids=["chunks", "whole"])
@pytest.mark.parametrize("cut", [0, 1, 99_999, 300_000])
def test_the_origin_breaks(origin: FakeRegistry, target: UploadRegistry, cut: int, chunk: int) -> None:
    origin.on(PATH, part_of(CONTENT, cut), part_of(CONTENT, cut), part_of(CONTENT))
    pair = Pair(origin, target)
    assert pair.copy(chunk=chunk) is UploadOutcome.SENT
    assert arrived(target) == {CONTENT}
    assert ranges(origin) == [f"bytes={at}-" if at else "" for at in (0, cut, 2 * cut)]
    assert pair.setup.waits == [1.0, 2.0]
    assert sum(len(seen.body) for seen in target.seen) == len(CONTENT)


def test_an_origin_without_parts_is_read_again_from_the_beginning(origin: FakeRegistry, target: UploadRegistry) -> None:
    origin.on(PATH, part_of(CONTENT, 300_000), reply(CONTENT))
    Pair(origin, target).copy()
    assert arrived(target) == {CONTENT}


@pytest.mark.parametrize("keeps", [True, False], ids=["resumed", "restarted"])
@pytest.mark.parametrize("at", [0, 1, 65_536, 100_001])
def test_the_target_breaks(origin: FakeRegistry, target: UploadRegistry, at: int, keeps: bool) -> None:
    target.keeps_partial = keeps
    target.cut_body_after = [CHUNK, at]
    Pair(origin, target).copy()
    assert arrived(target) == {CONTENT}
    again = CHUNK + (at if keeps else 0)
    assert ranges(origin) in ([""], ["", f"bytes={again - again % 65_536}-"])


def test_a_target_that_breaks_a_whole_upload_gets_all_of_it_again(origin: FakeRegistry, target: UploadRegistry) -> None:
    target.cut_body_after = [300_000]
    Pair(origin, target).copy(chunk=1 << 20)
    assert arrived(target) == {CONTENT}


def careless(target: UploadRegistry) -> None:
    """Make the registry take every complete request: only the sender checks digests."""
    inner = target._upload

    def upload(seen: Seen, repository: str, name: str) -> Route:
        if seen.method != "PUT" or len(seen.body) < int(seen.headers["content-length"]):
            return inner(seen, repository, name)
        target.blobs.setdefault(repository, {})[seen.query] = bytes(target.uploads[name]) + seen.body
        return reply(status=201)

    target._upload = upload  # type: ignore[method-assign,assignment]


def changed(at: int) -> bytes:
    wrong = bytearray(CONTENT)
    wrong[at] ^= 1
    return bytes(wrong)


@pytest.mark.parametrize("chunk", [CHUNK, 1 << 20], ids=["chunks", "whole"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed(0), "the content has the digest"),
        (changed(len(CONTENT) - 1), "the content has the digest"),
        (CONTENT[:-1], "699999 bytes instead of 700000"),
        (CONTENT + b"x", "700001 bytes instead of 700000"),
    ],
    ids=["first byte", "last byte", "short", "long"],
)
def test_wrong_bytes_are_never_committed(
    origin: FakeRegistry, target: UploadRegistry, content: bytes, message: str, chunk: int
) -> None:
    careless(target)
    origin.on(PATH, part_of(content))
    with pytest.raises(DigestMismatch, match=message):
        Pair(origin, target).copy(chunk=chunk)
    assert arrived(target) == set()


def test_an_origin_that_corrects_itself_after_a_break_is_not_believed(
    origin: FakeRegistry, target: UploadRegistry
) -> None:
    """The target has a wrong byte, and the hash of what is read now would be right."""
    careless(target)
    origin.on(PATH, part_of(changed(CHUNK + 5)), part_of(CONTENT))
    target.cut_body_after = [CHUNK, 10]
    with pytest.raises(DigestMismatch, match="other bytes than at the first time"):
        Pair(origin, target).copy()
    assert arrived(target) == set()


@pytest.mark.parametrize(
    ("route", "kind", "message"),
    [
        (reply(status=404), NotFound, "there is no blob"),
        (reply(status=400), RemoteError, "status 400 for blob"),
        (reply(status=503), Unreachable, "status 503 for blob .* 5 times in a row"),
        (reply(CONTENT, headers={"Content-Encoding": "gzip"}), RemoteError, "unexpected Content-Encoding"),
        (part_of(CONTENT, 0), Unreachable, "5 times in a row"),
    ],
)
def test_errors_of_the_origin_are_not_tried_at_the_target(
    origin: FakeRegistry, target: UploadRegistry, route: Route, kind: type[Exception], message: str
) -> None:
    origin.on(PATH, route)
    with pytest.raises(kind, match=message):
        Pair(origin, target).copy()
    assert arrived(target) == set()
    assert sum(seen.method == "POST" for seen in target.seen) == 1


def test_a_wrong_part_is_not_taken(origin: FakeRegistry, target: UploadRegistry) -> None:
    other = reply(CONTENT[:10], 206, {"Content-Range": f"bytes 0-9/{len(CONTENT)}"})
    origin.on(PATH, part_of(CONTENT, 300_000), other, part_of(CONTENT))
    Pair(origin, target).copy()
    assert arrived(target) == {CONTENT}


def test_reading_has_a_deadline(origin: FakeRegistry, target: UploadRegistry) -> None:
    now = [0.0]

    def late(handler: Handler) -> None:
        now[0] += 400
        part_of(CONTENT, 1)(handler)

    origin.on(PATH, late)
    pair = Pair(origin, target, limits=RemoteLimits(blob_rate=1 << 40, retries=100))
    pair.setup.options["clock"] = lambda: now[0]
    with pytest.raises(TooSlow, match=r"only [12] of 700000 bytes arrived in time"):
        pair.copy(clock=lambda: 0.0)


def test_a_mirror_that_fails_is_replaced_by_the_registry(origin: FakeRegistry, target: UploadRegistry) -> None:
    careless(target)
    with fake_registry("127.0.0.3") as mirror:
        mirror.on(PATH, part_of(changed(9)))
        settings = {
            origin.host: RegistrySettings(plain_http=True, mirrors=(mirror.host,)),
            mirror.host: RegistrySettings(plain_http=True),
        }
        Pair(origin, target, settings=settings).copy()
        assert len(mirror.asked(PATH)) == 1
    assert arrived(target) == {CONTENT}


def test_an_error_of_the_target_does_not_try_another_server_of_the_origin(
    origin: FakeRegistry, target: UploadRegistry
) -> None:
    target.intercept = lambda seen: reply(status=403) if seen.method == "POST" else None
    with fake_registry("127.0.0.3") as mirror:
        mirror.on(PATH, part_of(CONTENT))
        settings = {
            origin.host: RegistrySettings(plain_http=True, mirrors=(mirror.host,)),
            mirror.host: RegistrySettings(plain_http=True),
        }
        with pytest.raises(RemoteError, match=f"{target.host}/team/app: access to the upload"):
            Pair(origin, target, settings=settings).copy()
    assert origin.asked(PATH) == []


# -- documents of any type


@pytest.mark.parametrize(
    ("answer", "headers", "expected", "found"),
    [
        ({"mediaType": "application/vnd.a+json"}, "application/vnd.a+json", "application/vnd.a+json", "application/vnd.a+json"),
        ({"mediaType": "application/vnd.A+json"}, "application/vnd.A+json; charset=utf-8", "", "application/vnd.A+json"),
        ({"mediaType": "application/vnd.a+json"}, "application/json", "", "application/vnd.a+json"),
        ({}, "application/vnd.b+json", "", "application/vnd.b+json"),
        ({"manifests": []}, "", "", MediaType.OCI_INDEX),
    ],
)
def test_documents_of_other_types(
    origin: FakeRegistry, answer: Mapping[str, object], headers: str, expected: str, found: str
) -> None:
    data = json.dumps(answer).encode()
    digest = Digest.of(data)
    origin.on(f"/v2/team/app/manifests/{digest}", reply(data, headers={"Content-Type": headers}))
    name = Reference.parse(f"{origin.host}/team/app")
    setup = Setup({origin.host: RegistrySettings(plain_http=True)})
    with setup.client() as client:
        document = client.document(name, Descriptor(expected, digest, len(data)))
    assert (document.descriptor.media_type, document.data) == (found, data)
    accept = origin.seen[-1].headers["accept"]
    assert accept.endswith("*/*;q=0.1") and expected in accept


def test_documents_are_checked(origin: FakeRegistry) -> None:
    image = Image()
    image.serve(origin)
    name = image.reference(origin)
    setup = Setup({origin.host: RegistrySettings(plain_http=True)}, limits=RemoteLimits(manifest_bytes=1000))
    other = Digest.of(b"other")
    origin.on(image.path("manifests", other), reply(image.manifest, headers={"Content-Type": image.media_type}))
    origin.on(image.path("manifests", "huge"), reply(index() + b" " * 1000, headers={"Content-Type": MediaType.OCI_INDEX}))
    with setup.client() as client:
        assert client.document(name).data == image.manifest
        with pytest.raises(DigestMismatch, match="expected sha256"):
            client.document(name, Descriptor(image.media_type, other, len(image.manifest)))
        with pytest.raises(DigestMismatch, match="its descriptor says 7"):
            client.document(name, Descriptor(image.media_type, image.descriptor.digest, 7))
        with pytest.raises(InvalidImage, match="its descriptor says"):
            client.document(name, Descriptor(MediaType.OCI_INDEX, image.descriptor.digest, len(image.manifest)))
        with pytest.raises(RemoteError, match="more than 1000 bytes"):
            client.document(image.reference(origin, "huge"))
        with pytest.raises(InvalidImage, match="exceed the limit of 1000 bytes"):
            client.document(name, Descriptor(image.media_type, image.descriptor.digest, 1001))
