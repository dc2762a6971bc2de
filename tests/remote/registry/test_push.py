"""Uploads to registries that do not do what one expects of them."""

from __future__ import annotations

import base64
import json
import os
import threading
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import pytest

from pybuild.remote.errors import RemoteError, TooSlow, Unauthorized, Unreachable
from pybuild.remote.http.site import RemoteLimits
from pybuild.remote.registry.blob_content import BlobFile
from pybuild.remote.registry.config import RegistrySettings
from pybuild.remote.registry.credentials import Credentials
from pybuild.remote.registry.upload import UploadOutcome
from pybuild.store.errors import DigestMismatch
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.reference import Reference
from tests.support.fake_registry import Setup, plain, reply
from tests.support.upload_registry import UploadRegistry, upload_registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pybuild.remote.registry.push import RepositoryWriter
    from tests.support.fake_registry import Handler, Route, Seen

registry = pytest.fixture(upload_registry)
other = pytest.fixture(upload_registry)
CHUNK = 100_000
CONTENT = os.urandom(8) * (350_000 // 8)  # three chunks and a half
SMALL = b"small"


def blob(directory: Path, content: bytes = CONTENT) -> BlobFile:
    path = directory / "blob"
    path.write_bytes(content)
    return BlobFile(Digest.of(content), len(content), str(path))


def writer(registry: UploadRegistry, setup: Setup | None = None, **options: object) -> RepositoryWriter:
    return (setup or plain(registry)).writer(name(registry), **{"chunk": CHUNK, **options})


def name(registry: UploadRegistry) -> Reference:
    return Reference.parse(f"{registry.host}/team/app")


def arrived(registry: UploadRegistry, repository: str = "team/app") -> set[bytes]:
    return set(registry.blobs.get(repository, {}).values())


def methods(registry: UploadRegistry) -> str:
    return " ".join(seen.method for seen in registry.requests())


def sent_bytes(registry: UploadRegistry) -> int:
    return sum(len(seen.body) for seen in registry.seen)


def test_a_small_blob_takes_two_requests(registry: UploadRegistry, tmp_path: Path) -> None:
    with writer(registry) as target:
        assert target.put_blob(blob(tmp_path, SMALL)) is UploadOutcome.SENT
        assert target.has_blob(Digest.of(SMALL))
    assert methods(registry) == "POST PUT HEAD"
    assert arrived(registry) == {SMALL}


def test_a_large_blob_is_sent_in_chunks(registry: UploadRegistry, tmp_path: Path) -> None:
    counts: list[int] = []
    with writer(registry) as target:
        target.put_blob(blob(tmp_path), on_bytes=counts.append)
    assert methods(registry) == "POST PATCH PATCH PATCH PATCH PUT"
    ranges = [seen.headers["content-range"] for seen in registry.requests("PATCH")]
    assert ranges == ["0-99999", "100000-199999", "200000-299999", "300000-349999"]
    assert arrived(registry) == {CONTENT}
    assert counts == sorted(counts) and counts[-1] == len(CONTENT)


def ways(registry: UploadRegistry, way: str) -> None:
    """Make the registry behave in one of the ways in which real ones do."""
    match way:
        case "an absolute Location":
            registry.location = lambda path: registry.url + path
        case "a Location with a query":
            registry.location = lambda path: f"{path}?_state=a%2Fb&x=1"
        case "no Location after a chunk":
            registry.location = lambda path: None if registry.requests("PATCH") else path
        case "Range with its unit":
            registry.reports_range = lambda size: f"bytes=0-{max(size - 1, 0)}"
        case "no Range":
            registry.reports_range = lambda size: None
        case "nonsense for Range":
            registry.reports_range = lambda size: "12"
        case "201 for a chunk":
            registry.chunk_status = 201
        case "204 for a chunk":
            registry.chunk_status = 204
        case "201 for a new upload":
            registry.begin_status = 201
        case "no digest":
            registry.digest_header = lambda digest: None
        case "a digest of another algorithm":
            registry.digest_header = lambda digest: f"sha512:{'0' * 128}"
        case "no chunks":
            registry.takes_chunks = False
        case "a large chunk minimum":
            registry.chunk_minimum = 150_000
        case "a larger chunk minimum than the blob":
            registry.chunk_minimum = 1 << 30
        case _:
            raise AssertionError(way)


@pytest.mark.parametrize(
    ("way", "requests"),
    [
        ("an absolute Location", "POST PATCH PATCH PATCH PATCH PUT"),
        ("a Location with a query", "POST PATCH PATCH PATCH PATCH PUT"),
        ("no Location after a chunk", "POST PATCH PATCH PATCH PATCH PUT"),
        ("Range with its unit", "POST PATCH PATCH PATCH PATCH PUT"),
        ("no Range", "POST PATCH PATCH PATCH PATCH PUT"),
        ("nonsense for Range", "POST PATCH PATCH PATCH PATCH PUT"),
        ("201 for a chunk", "POST PATCH PATCH PATCH PATCH PUT"),
        ("204 for a chunk", "POST PATCH PATCH PATCH PATCH PUT"),
        ("201 for a new upload", "POST PATCH PATCH PATCH PATCH PUT"),
        ("no digest", "POST PATCH PATCH PATCH PATCH PUT"),
        ("a digest of another algorithm", "POST PATCH PATCH PATCH PATCH PUT"),
        ("no chunks", "POST PATCH POST PUT"),
        ("a large chunk minimum", "POST PATCH PATCH PATCH PUT"),
        ("a larger chunk minimum than the blob", "POST PUT"),
    ],
)
def test_ways_of_real_registries(registry: UploadRegistry, tmp_path: Path, way: str, requests: str) -> None:
    ways(registry, way)
    with writer(registry) as target:
        assert target.put_blob(blob(tmp_path)) is UploadOutcome.SENT
    assert methods(registry) == requests
    assert arrived(registry) == {CONTENT}


def test_requests_become_smaller_where_a_server_refuses_their_size(registry: UploadRegistry, tmp_path: Path) -> None:
    registry.largest_request = 1 << 20
    content = os.urandom(8) * (1 << 18)
    with writer(registry, chunk=32 << 20) as target:
        target.put_blob(blob(tmp_path, content))
    assert arrived(registry) == {content}
    assert max(len(seen.body) for seen in registry.requests("PATCH")) == 1 << 20


def test_a_server_that_refuses_every_size_is_an_error(registry: UploadRegistry, tmp_path: Path) -> None:
    registry.largest_request = 1000
    with writer(registry) as target, pytest.raises(RemoteError, match="status 413 for the upload of blob") as caught:
        target.put_blob(blob(tmp_path))
    assert caught.value.hint == "a server in front of the registry limits the size of requests"


# -- broken connections


@pytest.mark.parametrize("keeps", [True, False], ids=["resumed", "restarted"])
@pytest.mark.parametrize("at", [0, 1, 65_536, 99_999])
def test_a_broken_connection_costs_a_chunk(registry: UploadRegistry, tmp_path: Path, at: int, keeps: bool) -> None:
    registry.keeps_partial = keeps
    registry.cut_body_after = [CHUNK, at]
    setup = plain(registry)
    with writer(registry, setup) as target:
        target.put_blob(blob(tmp_path))
    assert arrived(registry) == {CONTENT}
    assert setup.waits == [1.0]
    received = sum(len(seen.body) for seen in registry.requests("PATCH"))
    assert received == len(CONTENT) + (0 if keeps else at)
    assert methods(registry).startswith("POST PATCH PATCH GET PATCH")


def test_an_upload_that_is_gone_begins_again(registry: UploadRegistry, tmp_path: Path) -> None:
    registry.cut_body_after = [CHUNK, 10]

    def lose(seen: Seen) -> bool:
        if seen.method == "GET":
            registry.uploads.clear()
        return False

    registry.lose = lose
    with writer(registry) as target:
        target.put_blob(blob(tmp_path))
    assert methods(registry) == "POST PATCH PATCH GET HEAD POST PATCH PATCH PATCH PATCH PUT"
    assert arrived(registry) == {CONTENT}


def once(test: Callable[[Seen], bool]) -> Callable[[Seen], bool]:
    left = [1]
    return lambda seen: bool(left) and test(seen) and bool(left.pop())


@pytest.mark.parametrize("content", [SMALL, CONTENT], ids=["small", "large"])
@pytest.mark.parametrize("when", ["lose", "lose_answer"])
@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
def test_any_request_can_be_lost(
    registry: UploadRegistry, tmp_path: Path, content: bytes, when: str, method: str
) -> None:
    setattr(registry, when, once(lambda seen: seen.method == method))
    with writer(registry) as target:
        outcome = target.put_blob(blob(tmp_path, content))
    assert arrived(registry) == {content}
    lost = when == "lose_answer" and method == "PUT"
    assert outcome is (UploadOutcome.PRESENT if lost else UploadOutcome.SENT)
    assert sent_bytes(registry) <= len(content) + (CHUNK if method == "PATCH" else len(SMALL))


def test_each_chunk_has_its_own_tries(registry: UploadRegistry, tmp_path: Path) -> None:
    lost = iter([True, True, True, True, False] * 4)
    registry.lose = lambda seen: seen.method == "PATCH" and next(lost)
    setup = plain(registry)
    with writer(registry, setup) as target:
        target.put_blob(blob(tmp_path))
    assert setup.waits == [1.0, 2.0, 4.0, 8.0] * 4
    assert arrived(registry) == {CONTENT}


def test_five_tries_without_progress_are_an_error(registry: UploadRegistry, tmp_path: Path) -> None:
    registry.lose = lambda seen: seen.method == "PATCH"
    with writer(registry) as target, pytest.raises(Unreachable, match="5 times in a row"):
        target.put_blob(blob(tmp_path))
    assert arrived(registry) == set()


def test_a_registry_that_takes_a_part_of_a_chunk_gets_the_rest(registry: UploadRegistry, tmp_path: Path) -> None:
    def cut(seen: Seen) -> Route | None:
        if len(registry.requests("PATCH")) == 1 and seen.method == "PATCH":
            registry.uploads[seen.path.rpartition("/")[2]] += seen.body[:50_000]
            return reply(b"", 202, {"Location": seen.path, "Range": "0-49999"})
        return None

    registry.intercept = cut
    with writer(registry) as target:
        target.put_blob(blob(tmp_path))
    assert [seen.headers["content-range"] for seen in registry.requests("PATCH")][1] == "50000-149999"
    assert arrived(registry) == {CONTENT}


def test_a_registry_that_forgets_bytes_gets_them_again(registry: UploadRegistry, tmp_path: Path) -> None:
    def forget(seen: Seen) -> Route | None:
        if len(registry.requests("PATCH")) == 2 and seen.method == "PATCH":
            registry.uploads[seen.path.rpartition("/")[2]].clear()  # so the second chunk does not fit: 416
        return None

    registry.intercept = forget
    with writer(registry) as target:
        target.put_blob(blob(tmp_path))
    assert arrived(registry) == {CONTENT}
    assert methods(registry) == "POST PATCH PATCH GET PATCH PATCH PATCH PATCH PUT"


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("method", ["HEAD", "POST", "PATCH", "PUT"])
def test_a_busy_registry_gets_its_time(registry: UploadRegistry, tmp_path: Path, method: str, status: int) -> None:
    busy = once(lambda seen: seen.method == method)
    registry.intercept = lambda seen: reply(status=status, headers={"Retry-After": "7"}) if busy(seen) else None
    setup = plain(registry)
    with writer(registry, setup) as target:
        assert not target.has_blob(Digest.of(CONTENT))
        target.put_blob(blob(tmp_path))
    assert setup.waits == [7.0]
    assert arrived(registry) == {CONTENT}


def test_a_registry_that_takes_nothing_is_too_slow(registry: UploadRegistry, tmp_path: Path) -> None:
    content = bytes(64 << 20)  # more than the buffers of a connection

    given_up = threading.Event()

    def wait(handler: Handler, length: int) -> bytes:
        if length:
            given_up.wait(60)
            handler.cut()
        return b""

    registry.read_body = wait  # type: ignore[method-assign]
    limits = RemoteLimits(rate_seconds=0.05)
    try:
        with (
            writer(registry, plain(registry, limits=limits), chunk=1 << 30) as target,
            pytest.raises(TooSlow, match=r"took less than 1024 bytes a second for 0.05 s"),
        ):
            target.put_blob(blob(tmp_path, content))
    finally:
        given_up.set()


def test_a_blob_has_a_deadline(registry: UploadRegistry, tmp_path: Path) -> None:
    now = [0.0]

    def late(seen: Seen) -> Route | None:
        now[0] += 400
        return None

    registry.intercept = late
    limits = RemoteLimits(blob_rate=1 << 40)
    with (
        writer(registry, plain(registry, limits=limits), clock=lambda: now[0]) as target,
        pytest.raises(TooSlow, match=r"only [0-9]+ of 350000 bytes were sent in time"),
    ):
        target.put_blob(blob(tmp_path))


# -- mounts


@pytest.mark.parametrize(
    ("mounts", "requests", "outcome"),
    [
        ("accepted", "POST HEAD", UploadOutcome.MOUNTED),
        ("declined", "POST PUT", UploadOutcome.SENT),
        ("refused", "POST POST PUT", UploadOutcome.SENT),
        ("claimed", "POST HEAD POST PUT", UploadOutcome.SENT),
    ],
)
def test_a_blob_of_another_repository_is_mounted(
    registry: UploadRegistry, tmp_path: Path, mounts: str, requests: str, outcome: UploadOutcome
) -> None:
    registry.blobs["team/base"] = {str(Digest.of(SMALL)): SMALL}
    registry.mounts = mounts
    with writer(registry, sources=["team/base"]) as target:
        assert target.put_blob(blob(tmp_path, SMALL), "team/base") is outcome
    assert methods(registry) == requests
    assert arrived(registry) == {SMALL}


# -- what is refused


def test_a_registry_that_names_no_place_is_an_error(registry: UploadRegistry, tmp_path: Path) -> None:
    registry.location = lambda path: None
    with writer(registry) as target, pytest.raises(RemoteError, match="does not say where to"):
        target.put_blob(blob(tmp_path))


@pytest.mark.parametrize("content", [SMALL, CONTENT], ids=["small", "large"])
def test_another_digest_is_an_error(registry: UploadRegistry, tmp_path: Path, content: bytes) -> None:
    registry.digest_header = lambda digest: f"sha256:{'0' * 64}"
    with writer(registry) as target, pytest.raises(DigestMismatch, match="the registry says that its digest is"):
        target.put_blob(blob(tmp_path, content))


@pytest.mark.parametrize(
    ("header", "kind", "message"),
    [
        (f"sha256:{'0' * 64}", DigestMismatch, "manifest 1: the registry says that its digest is sha256:0000"),
        ("nonsense", RemoteError, "Docker-Content-Digest nonsense is not a digest"),
    ],
)
def test_another_digest_of_a_manifest_is_an_error(
    registry: UploadRegistry, header: str, kind: type[Exception], message: str
) -> None:
    registry.digest_header = lambda digest: header
    registry.blobs["team/app"] = {"x": b""}
    manifest = json.dumps({"config": {"digest": "x"}, "layers": []}).encode()
    with writer(registry) as target, pytest.raises(kind, match=message):
        target.put_manifest("1", manifest, MediaType.OCI_MANIFEST)


@pytest.mark.parametrize(("status", "kind"), [(400, RemoteError), (403, Unauthorized), (404, RemoteError), (415, RemoteError)])
def test_a_refused_manifest_is_an_error_with_the_reason(
    registry: UploadRegistry, status: int, kind: type[Exception]
) -> None:
    registry.intercept = lambda seen: reply(b'{"errors":[{"code":"X","message":"not so"}]}', status)
    for media_type in (MediaType.OCI_MANIFEST, MediaType.DOCKER_MANIFEST):
        with writer(registry) as target, pytest.raises(kind, match=r"team/app: .* manifest 1.*: not so") as caught:
            target.put_manifest("1", b"{}", media_type)
        hint = str(getattr(caught.value, "hint", None))
        assert ("oci-mediatypes=false" in hint) == (status in (400, 415) and media_type == MediaType.OCI_MANIFEST)


def test_a_damaged_file_is_named_as_such(registry: UploadRegistry, tmp_path: Path) -> None:
    damaged = blob(tmp_path)
    with open(damaged.path, "r+b") as file:
        file.write(b"x")
    with writer(registry) as target, pytest.raises(DigestMismatch, match="the bytes do not match the digest") as caught:
        target.put_blob(damaged)
    assert "the file is damaged" in str(caught.value.hint)
    assert arrived(registry) == set()


def test_a_short_file_is_named_as_such(registry: UploadRegistry, tmp_path: Path) -> None:
    damaged = blob(tmp_path)
    os.truncate(damaged.path, 120_000)
    with writer(registry) as target, pytest.raises(DigestMismatch, match="the bytes do not match the digest"):
        target.put_blob(damaged)


# -- credentials


def logged_in(directory: Path, *hosts: str) -> Credentials:
    auth = base64.b64encode(b"me:secret").decode()
    (directory / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth} for host in hosts}}))
    return Credentials({"DOCKER_CONFIG": str(directory)})


def guarded(registry: UploadRegistry, authorization: str) -> Callable[[Seen], Route | None]:
    challenge = {"WWW-Authenticate": 'Basic realm="x"'}
    return lambda seen: reply(status=401, headers=challenge) if seen.authorization != authorization else None


@pytest.mark.parametrize("content", [SMALL, CONTENT], ids=["small", "large"])
def test_another_host_gets_the_blob_without_credentials(
    registry: UploadRegistry, other: UploadRegistry, tmp_path: Path, content: bytes
) -> None:
    other.uploads["7"] = bytearray()
    basic = "Basic " + base64.b64encode(b"me:secret").decode()
    registry.intercept = guarded(registry, basic)
    registry.location = lambda path: f"{other.url}/v2/team/app/blobs/uploads/7?signature=x"
    setup = plain(registry, other, credentials=logged_in(tmp_path, registry.host, other.host))
    with writer(registry, setup) as target:
        target.put_blob(blob(tmp_path, content))
    assert arrived(other) == {content}
    assert {seen.authorization for seen in other.seen} == {None}
    assert basic in {seen.authorization for seen in registry.seen}


def test_another_host_that_asks_for_credentials_gets_none(
    registry: UploadRegistry, other: UploadRegistry, tmp_path: Path
) -> None:
    basic = "Basic " + base64.b64encode(b"me:secret").decode()
    registry.intercept = guarded(registry, basic)
    other.intercept = guarded(other, basic)
    registry.location = lambda path: f"{other.url}{path}"
    setup = plain(registry, other, credentials=logged_in(tmp_path, registry.host, other.host))
    with writer(registry, setup) as target, pytest.raises(RemoteError, match=f"from {other.url}: status 401"):
        target.put_blob(blob(tmp_path, SMALL))
    assert {seen.authorization for seen in other.seen} == {None}


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("http://169.254.169.254/x", "an address that pybuild never connects to"),
        ("ftp://a.test/x", "neither an https nor an http URL"),
        ("http://me:secret@127.0.0.1/x", "a URL with a user name"),
        ("http://[::1", "invalid URL"),
    ],
)
def test_a_hostile_location_is_refused(registry: UploadRegistry, tmp_path: Path, location: str, message: str) -> None:
    registry.location = lambda path: location
    with writer(registry) as target, pytest.raises(RemoteError, match=message):
        target.put_blob(blob(tmp_path, SMALL))


def test_a_private_location_of_a_public_registry_is_refused(registry: UploadRegistry, tmp_path: Path) -> None:
    registry.location = lambda path: f"http://10.0.0.1{path}"
    with (
        writer(registry, private=lambda address: str(address) == "10.0.0.1") as target,
        pytest.raises(RemoteError, match=r"10\.0\.0\.1, a private address"),
    ):
        target.put_blob(blob(tmp_path, SMALL))


# -- tokens


class TokenServer:
    """The token server of a registry, at its own address. Only the last token is valid."""

    def __init__(self, registry: UploadRegistry) -> None:
        self.server = registry
        self.valid: set[str] = set()
        self.given = 0
        self.seconds = 300
        self.scopes: list[list[str]] = []
        self.refuses: Callable[[list[str]], bool] = lambda scopes: False
        registry.on("/token", self.token)
        challenge = {"WWW-Authenticate": f'Bearer realm="{registry.url}/token",service="s"'}
        registry.intercept = (
            lambda seen: None if seen.authorization in self.valid else reply(status=401, headers=challenge)
        )

    def token(self, handler: Handler) -> None:
        seen = self.server.seen[-1]
        scopes = parse_qs(seen.query)["scope"]
        self.scopes.append(scopes)
        if self.refuses(scopes):
            reply(status=403)(handler)
            return
        self.given += 1
        self.valid = {f"Bearer t{self.given}"}
        body = json.dumps({"token": f"t{self.given}", "expires_in": self.seconds}).encode()
        reply(body)(handler)


@pytest.fixture
def tokens(registry: UploadRegistry) -> TokenServer:
    return TokenServer(registry)


def test_the_token_is_for_a_push_and_for_the_sources(
    registry: UploadRegistry, tokens: TokenServer, tmp_path: Path
) -> None:
    registry.blobs["team/base"] = {str(Digest.of(SMALL)): SMALL}
    with writer(registry, sources=["team/base"]) as target:
        assert target.put_blob(blob(tmp_path, SMALL), "team/base") is UploadOutcome.MOUNTED
    assert tokens.scopes == [["repository:team/app:pull,push", "repository:team/base:pull"]]


def test_a_source_that_the_token_server_refuses_is_not_mounted(
    registry: UploadRegistry, tokens: TokenServer, tmp_path: Path
) -> None:
    tokens.refuses = lambda scopes: len(scopes) > 1
    registry.mounts = "refused"
    with writer(registry, sources=["team/base"]) as target:
        assert target.put_blob(blob(tmp_path, SMALL), "team/base") is UploadOutcome.SENT
    assert tokens.scopes[1:] == [["repository:team/app:pull,push"]]


def test_a_token_that_has_expired_is_renewed_before_the_next_chunk(
    registry: UploadRegistry, tokens: TokenServer, tmp_path: Path
) -> None:
    now = [0.0]
    original = registry.intercept

    def later(seen: Seen) -> Route | None:
        now[0] += 100
        return original(seen)

    registry.intercept = later
    with writer(registry, clock=lambda: now[0]) as target:
        target.put_blob(blob(tmp_path))
    assert tokens.given > 1
    assert arrived(registry) == {CONTENT}
    assert sent_bytes(registry) == len(CONTENT)


def test_a_token_that_is_revoked_in_the_middle_is_replaced(
    registry: UploadRegistry, tokens: TokenServer, tmp_path: Path
) -> None:
    original = registry.intercept
    revoked = once(lambda seen: len(registry.requests("PATCH")) == 2)

    def revoke(seen: Seen) -> Route | None:
        if revoked(seen):
            tokens.valid = set()
        return original(seen)

    registry.intercept = revoke
    with writer(registry) as target:
        target.put_blob(blob(tmp_path))
    assert tokens.given == 2
    assert arrived(registry) == {CONTENT}


def test_a_token_that_does_not_allow_a_push_is_an_error(
    registry: UploadRegistry, tokens: TokenServer, tmp_path: Path
) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{tokens.server.url}/token",error="insufficient_scope"'}
    registry.intercept = lambda seen: reply(status=401, headers=challenge) if seen.method == "POST" else None
    with writer(registry) as target, pytest.raises(Unauthorized, match="access denied without credentials"):
        target.put_blob(blob(tmp_path, SMALL))
    assert tokens.given == 1


def test_credentials_need_tls_for_a_push_too(registry: UploadRegistry, tmp_path: Path) -> None:
    host = registry.host
    registry.intercept = guarded(registry, "nothing")
    settings = {host: RegistrySettings()}
    setup = Setup(settings, credentials=logged_in(tmp_path, host))
    with setup.writer(name(registry)) as target, pytest.raises(Unauthorized):
        target.put_blob(blob(tmp_path, SMALL))
