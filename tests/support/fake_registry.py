"""A scripted registry on the loopback interface, and an image for it."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pybuild.remote.http.site import RemoteLimits
from pybuild.remote.registry.client import RegistryClient
from pybuild.remote.registry.config import Config, RegistrySettings
from pybuild.remote.registry.credentials import Credentials
from pybuild.remote.registry.push import RepositoryWriter
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.oci_manifest import Descriptor
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_CLIENT_HELLO = b"\x16\x03"  # how TLS begins
LINUX = Platform("linux", "amd64")


@dataclass(frozen=True)
class Seen:
    """A request that arrived. Header names are in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def authorization(self) -> str | None:
        return self.headers.get("authorization")


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: _Server
    raw_requestline: bytes  # http.server has it
    broken = False  # whether to break the connection in place of an answer

    def handle_any(self) -> None:
        path, _, query = self.path.partition("?")
        body = self.server.fake.read_body(self, int(self.headers.get("Content-Length", 0)))
        seen = Seen(self.command, path, query, {name.lower(): value for name, value in self.headers.items()}, body)
        self.server.fake.seen.append(seen)
        self.server.fake.arrived.release()
        self.server.fake.route(path)(self)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_CONNECT = handle_any

    def parse_request(self) -> bool:
        self.server.fake.hellos += self.raw_requestline.startswith(_CLIENT_HELLO)
        return super().parse_request()

    def send(self, data: bytes) -> bool:
        """Send raw bytes; return whether the client is still connected."""
        try:
            self.wfile.write(data)
        except OSError:
            return False
        return True

    def until_closed(self) -> None:
        """Send nothing until the client closes the connection."""
        with contextlib.suppress(OSError):
            while self.connection.recv(1 << 16):
                pass
        self.close_connection = True

    def cut(self) -> None:
        """Break the connection like a crash."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


Route = Callable[[Handler], None]


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeRegistry

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # tests make clients that close the connection


def reply(
    body: bytes = b"", status: int = 200, headers: Mapping[str, str] | None = None, length: int | None = -1
) -> Route:
    """A route with a fixed response. `length` is the Content-Length: -1 the real one, None no header."""

    def route(handler: Handler) -> None:
        handler.send_response(status)
        if length is not None:
            handler.send_header("Content-Length", str(len(body) if length == -1 else length))
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        with contextlib.suppress(OSError):
            handler.end_headers()
        handler.send(body)
        if length != -1:
            handler.close_connection = True

    return route


def redirect(location: str, status: int = 307) -> Route:
    return reply(status=status, headers={"Location": location})


class FakeRegistry:
    """A server with a list of routes for each path: each request uses the next one, the last one stays. Any other path is 404."""

    def __init__(self, server: _Server, scheme: str) -> None:
        self.host = f"{server.server_address[0]!s}:{server.server_port}"
        self.url = f"{scheme}://{self.host}"
        self.scheme = scheme
        self.seen: list[Seen] = []
        self.hellos = 0  # attempts to speak TLS with a server that does not
        self.arrived = threading.Semaphore(0)  # counts the requests
        self.paths: dict[str, list[Route]] = {}

    def on(self, path: str, *routes: Route) -> None:
        self.paths[path] = list(routes)

    def route(self, path: str) -> Route:
        routes = self.paths.get(path)
        if routes is None:
            return reply(b'{"errors":[{"code":"UNKNOWN"}]}', 404)
        return routes.pop(0) if len(routes) > 1 else routes[0]

    def read_body(self, handler: Handler, length: int) -> bytes:
        """Read the body of a request."""
        return handler.rfile.read(length)

    def await_requests(self, number: int) -> None:
        """Wait until `number` requests have arrived: a client can leave before the server has read its request."""
        assert all(self.arrived.acquire(timeout=60) for _ in range(number))

    def asked(self, path: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.path == path]


R = TypeVar("R", bound=FakeRegistry)


@contextlib.contextmanager
def fake_registry(host: str = "127.0.0.1", certificate: Path | None = None) -> Iterator[FakeRegistry]:
    """Run a registry. `certificate` is a directory with server.crt and server.key."""
    with running(FakeRegistry, host, certificate) as found:
        yield found


@contextlib.contextmanager
def running(kind: type[R], host: str = "127.0.0.1", certificate: Path | None = None) -> Iterator[R]:
    """Run a registry of this kind."""
    server = _Server((host, 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate / "server.crt", certificate / "server.key")
        # The first read does the handshake, in the thread of the connection.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.fake = fake = kind(server, "http" if certificate is None else "https")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Image:
    """An image with one layer, and its paths on a registry."""

    layer: bytes = b"layer" * 1000
    repository: str = "team/app"
    config: bytes = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
    layer_fields: Mapping[str, object] = field(default_factory=dict)
    media_type: str = MediaType.OCI_MANIFEST

    @property
    def blob(self) -> Descriptor:
        return Descriptor(MediaType.OCI_LAYER_GZIP, Digest.of(self.layer), len(self.layer))

    @property
    def manifest(self) -> bytes:
        layer = {**self.blob.to_json(), **self.layer_fields}
        return json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": self.media_type,
                "config": Descriptor(MediaType.OCI_CONFIG, Digest.of(self.config), len(self.config)).to_json(),
                "layers": [layer],
            }
        ).encode()

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, Digest.of(self.manifest), len(self.manifest), platform=LINUX)

    def path(self, what: str, name: object) -> str:
        return f"/v2/{self.repository}/{what}/{name}"

    @property
    def blob_path(self) -> str:
        return self.path("blobs", self.blob.digest)

    def serve(self, fake: FakeRegistry, tag: str = "1") -> None:
        """Serve the image under a tag and its digests."""
        manifest = reply(self.manifest, headers={"Content-Type": self.media_type})
        fake.on(self.path("manifests", tag), manifest)
        fake.on(self.path("manifests", self.descriptor.digest), manifest)
        fake.on(self.blob_path, reply(self.layer))
        fake.on(self.path("blobs", Digest.of(self.config)), reply(self.config))

    def reference(self, fake: FakeRegistry, tag: str = "1") -> Reference:
        return Reference.parse(f"{fake.host}/{self.repository}:{tag}")


def index(*manifests: Mapping[str, object], media_type: str = MediaType.OCI_INDEX) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": list(manifests)}).encode()


@dataclass
class Setup:
    """The setup of a client. `waits` are the seconds that it would have waited."""

    registries: dict[str, RegistrySettings] = field(default_factory=dict)
    limits: RemoteLimits = field(default_factory=RemoteLimits)
    credentials: Credentials = field(default_factory=Credentials.none)
    environ: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)

    def client(self) -> RegistryClient:
        config = Config(self.registries, self.limits)
        return RegistryClient(config, self.credentials, self.environ, sleep=self.waits.append, **self.options)

    def writer(self, repository: Reference, **options: Any) -> RepositoryWriter:
        config = Config(self.registries, self.limits)
        options = {**self.options, **options}
        return RepositoryWriter(config, self.credentials, self.environ, repository, sleep=self.waits.append, **options)


def plain(*fakes: FakeRegistry, **options: Any) -> Setup:
    """A client that speaks plain http to these registries, without trying TLS first."""
    return Setup({fake.host: RegistrySettings(plain_http=True) for fake in fakes}, **options)
