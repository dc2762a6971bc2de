"""Requests to one site, and to the servers that it redirects to.

This module follows redirects itself, because urllib3 lacks these rules: at most ten redirects, never from https to http,
never to a link-local address, never from a public site to a private address (also checked on the connection, because a
name can resolve to any address), and credentials go only to the origin that they were meant for.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
import time
import warnings
from dataclasses import field
from typing import TYPE_CHECKING, NoReturn, Protocol

import urllib3
from urllib3 import exceptions

from pybuild.remote.errors import RemoteError, Unreachable
from pybuild.remote.http.connections import Hooks, Watch, direct_pool, proxied_pool
from pybuild.remote.http.proxies import proxy_for
from pybuild.remote.http.trust import bare_context, system_context, tls_context
from pybuild.remote.http.urls import Url, address_of, is_forbidden, is_private, printable
from pybuild.values import frozen
from pybuild.values.errors import PybuildError
from pybuild.values.limits import CONNECT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from pybuild.remote.http.site import RemoteLimits, Site
    from pybuild.remote.http.urls import Address, Origin
    from pybuild.values.limits import Limit

USER_AGENT = "pybuild"
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_SAFE = frozenset(("GET", "HEAD"))
_PIECE = 1 << 20  # bytes
_WORTH_READING = 16 << 10  # bytes; for a longer body the connection is closed instead
# OpenSSL's reasons when the server does not speak TLS at all.
_NO_TLS = frozenset(
    ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_EOF_WHILE_READING", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
)  # fmt: skip


class Interrupted(RemoteError):
    """A connection broke, or a server is busy: a retry might succeed. `wait` is the seconds that the server asked for."""

    def __init__(self, message: str, *, hint: str | None = None, wait: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.wait = wait


class NoTls(Unreachable):
    """A server answered, but does not speak TLS."""


class NotTrusted(Unreachable):
    """A server speaks TLS, and its certificate is not trusted."""


class ConnectionRefused(Unreachable):
    """No server listens at that port."""


class RequestRefused(RemoteError):
    """A server does not do what a request asks for; another way might succeed. `status` is that of its response."""

    def __init__(self, message: str, *, hint: str | None = None, status: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.status = status


def public_error(error: PybuildError) -> PybuildError:
    """The same error as a class of remote/errors.py. The classes of this module are for retries and other ways."""
    if isinstance(error, Interrupted | NoTls | NotTrusted | ConnectionRefused):
        return Unreachable(str(error), hint=error.hint)
    if isinstance(error, RequestRefused):
        return RemoteError(str(error), hint=error.hint)
    return error


class Body(Protocol):
    """A large body of a request. `pieces` can be called again, for the next try."""

    @property
    def size(self) -> int:
        """Its length in bytes."""
        ...

    def pieces(self) -> Iterator[bytes]:
        """The bytes, in pieces of at most 64 KiB: each has to be sent in `rate-seconds`."""
        ...


@frozen
class Request:
    """One request. `authorization` is sent to the URL's own origin only, not to the target of a redirect.

    `answer_seconds` is the time from the last byte of the request to the headers of the response; None: that of the limits.
    """

    method: str
    url: Url
    headers: Mapping[str, str] = field(default_factory=dict)
    authorization: str | None = field(default=None, repr=False)
    body: bytes | Body | None = field(default=None, repr=False)
    answer_seconds: float | None = None


class Response:
    """A status and headers, with a body that the caller reads. A context manager."""

    def __init__(self, request: Request, url: Url, response: urllib3.BaseHTTPResponse, watch: Watch) -> None:
        self.request = request
        self.url = url  # after all redirects
        self.status = response.status
        self._response = response
        self._watch = watch

    def header(self, name: str) -> str:
        """The value of a header; "" if it is missing."""
        return self._response.headers.get(name, "")

    def headers(self, name: str) -> list[str]:
        """All values of a header that can appear more than once."""
        return list(self._response.headers.getlist(name))

    def length(self) -> int | None:
        """Content-Length in bytes; None if it is missing or not a number."""
        text = self.header("Content-Length")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None

    def chunks(self, limit: int, deadline: float = float("inf")) -> Iterator[bytes]:
        """The body in pieces as they arrive, up to one byte more than `limit`. `deadline` is a time of the clock.

        Raises Interrupted if the connection breaks, TooSlow, RemoteError.
        """
        encoding = self.header("Content-Encoding")
        if encoding not in ("", "identity"):
            raise RemoteError(f"{self.url}: unexpected Content-Encoding {printable(encoding)}")
        self._watch.begin_body(limit, deadline)
        left = limit + 1
        while left > 0:
            try:
                piece = self._response.read1(min(left, _PIECE), decode_content=False)
            except exceptions.HTTPError as error:
                raise Interrupted(f"{self.url.origin}: the connection broke: {_reason(error)}") from None
            except (http.client.HTTPException, ValueError, OSError) as error:
                raise Interrupted(f"{self.url.origin}: malformed response: {printable(str(error))}") from None
            if not piece:
                return
            left -= len(piece)
            yield piece

    def read(self, limit: int, content: str, reason: Limit) -> bytes:
        """The whole body. Raises RemoteError if it is longer than `limit`, which is the value of `reason`.

        `content` says in the message what the server sends, for instance "a manifest".
        """
        data = b"".join(self.chunks(limit))
        if len(data) > limit:
            shown = reason.shown(limit)
            raise RemoteError(f"{self.url.origin} sends {content} of more than {shown}", hint=reason.hint())
        return data

    def close(self) -> None:
        """Close the response. A short body is first read to its end, so the connection can be used again."""
        length = self.length()
        if length is not None and length <= _WORTH_READING:
            with contextlib.suppress(RemoteError):
                for _ in self.chunks(length):
                    pass
        self._response.close()

    def __enter__(self) -> Response:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Transport:
    """The connections for requests to one site."""

    def __init__(
        self,
        site: Site,
        limits: RemoteLimits,
        environ: Mapping[str, str],
        *,
        clock: Callable[[], float] = time.monotonic,
        private: Callable[[Address], bool] = is_private,
    ) -> None:
        self._site = site
        self._limits = limits
        self._environ = environ
        self._clock = clock
        self._is_private = private
        self._watch = Watch(limits, site.name, clock)
        address = address_of(site.host)
        # None for a host name until the first connection.
        self._site_is_private: bool | None = None if address is None else private(address)
        self._pools: dict[Origin, urllib3.PoolManager] = {}

    def request(self, request: Request) -> Response:
        """Send a request and follow redirects. Raises Unreachable, Interrupted, TooSlow, RemoteError."""
        url, authorization = request.url, request.authorization
        self.check_target(url.origin)
        for _ in range(self._limits.redirects + 1):
            response = self._exchange(self._pool(url.origin), request, url, authorization)
            location = response.header("Location")
            if response.status not in _REDIRECTS or not location:
                return response
            response.close()
            if request.method not in _SAFE:
                raise RemoteError(f"{url} redirects a {request.method}, which is not followed")
            target = url.join(location)
            if url.origin.scheme == "https" and target.origin.scheme == "http":
                raise RemoteError(f"{url.origin} redirects from https to {target}, which is not followed")
            self.check_target(target.origin)
            if target.origin != url.origin:
                authorization = None
            url = target
        raise RemoteError(f"{request.url} redirects more often than the limit of {self._limits.redirects}")

    def require_tls(self, origin: Origin) -> None:
        """Find out by a handshake whether a server of the site speaks TLS, before certificates are read for it.

        That takes longer than the handshake. Raises NoTls if it does not, and the errors of `request`.
        """
        if not self._site.verify:  # then none are read
            return
        self.check_target(origin)
        url = Url(origin, "/")
        pool = self._new_pool(origin, lambda _: bare_context())
        try:
            with contextlib.suppress(NotTrusted):
                self._exchange(pool, Request("GET", url), url, None).close()
        finally:
            pool.clear()

    def check_target(self, origin: Origin) -> None:
        """Raise RemoteError if the host is a forbidden address, named by a server or by a recipe."""
        address = address_of(origin.host)
        if address is not None:
            self._check_address(address, origin)

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.clear()

    def _is_own(self, origin: Origin) -> bool:
        return origin in self._site.origins

    def _check_address(self, address: Address, origin: Origin) -> None:
        own = self._is_own(origin)
        subject = f"{origin.authority} is" if own else f"{self._site.name} redirects to {origin.authority},"
        if is_forbidden(address):
            raise RemoteError(f"{subject} an address that pybuild never connects to")
        if not own and self._is_private(address) and not self._site_is_private:
            raise RemoteError(
                f"{self._site.name} redirects to {origin.authority}, a private address, which is not followed"
            )

    def _exchange(self, pool: urllib3.PoolManager, request: Request, url: Url, authorization: str | None) -> Response:
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **request.headers}
        if authorization is not None:
            headers["Authorization"] = authorization
        body: bytes | Iterator[bytes] | None
        if isinstance(request.body, bytes | None):
            body = request.body
        else:
            headers["Content-Length"], body = str(request.body.size), request.body.pieces()
        self._watch = watch = Watch(self._limits, url.origin.authority, self._clock, request.answer_seconds)
        try:
            with warnings.catch_warnings():
                # The user turned verification off.
                warnings.simplefilter("ignore", exceptions.InsecureRequestWarning)
                response = pool.urlopen(
                    request.method,
                    f"{url.origin}{url.target}",
                    body=body,
                    headers=headers,
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    decode_content=False,
                )
        except exceptions.HTTPError as error:
            _raise_translated(error, url.origin)
        except (http.client.HTTPException, ValueError, OSError) as error:
            raise Interrupted(f"{url.origin}: {printable(str(error))}") from None
        return Response(request, url, response, watch)

    def _pool(self, origin: Origin) -> urllib3.PoolManager:
        if origin not in self._pools:
            self._pools[origin] = self._new_pool(origin, self._trust)
        return self._pools[origin]

    def _new_pool(self, origin: Origin, trust: Callable[[Origin], ssl.SSLContext]) -> urllib3.PoolManager:
        """Connections to an origin, and what they trust; nothing is asked about trust where they do not use TLS."""
        send_seconds = self._limits.rate_seconds
        proxy = proxy_for(origin, self._environ)
        is_tls = "https" in (origin.scheme, proxy.origin.scheme if proxy is not None else "")
        context = trust(origin) if is_tls else None
        if proxy is None:
            hooks = Hooks(lambda: self._watch, lambda address: self._check_peer(address, origin), send_seconds)
            return direct_pool(hooks, context, self._limits)
        return proxied_pool(Hooks(lambda: self._watch, None, send_seconds), context, self._limits, proxy)

    def _trust(self, origin: Origin) -> ssl.SSLContext:
        return tls_context(self._site, self._environ) if self._is_own(origin) else system_context(self._environ)

    def _check_peer(self, address: Address, origin: Origin) -> None:
        self._check_address(address, origin)
        if self._is_own(origin) and self._site_is_private is None:
            self._site_is_private = self._is_private(address)


def _raise_translated(error: exceptions.HTTPError, origin: Origin) -> NoReturn:
    """Raise the RemoteError for an error of urllib3."""
    if isinstance(error, exceptions.ProxyError):
        raise Unreachable(f"{origin.authority}: the proxy failed: {_reason(error)}") from None
    if isinstance(error, exceptions.SSLError):
        cause = error.args[0] if error.args else None
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise NotTrusted(
                f"{origin.authority}: its certificate is not trusted: {cause.verify_message}",
                hint="ca-files in the configuration adds an authority; --tls-verify=false accepts any certificate",
            ) from None
        if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
            raise NoTls(
                f"{origin.authority} does not speak TLS", hint="plain-http in the configuration allows http"
            ) from None
        raise Unreachable(f"{origin.authority}: TLS failed: {_reason(error)}") from None
    if isinstance(error, exceptions.NameResolutionError):
        raise Unreachable(
            f"{origin.host}: the name cannot be resolved", hint="is the name right, and has this machine a network?"
        ) from None
    if isinstance(error, exceptions.NewConnectionError):
        raise ConnectionRefused(f"{origin.authority}: no connection: {_reason(error)}") from None
    if isinstance(error, exceptions.ConnectTimeoutError):
        raise Interrupted(f"{origin.authority}: no connection in time", hint=CONNECT_SECONDS.hint()) from None
    if isinstance(error, exceptions.ProtocolError | exceptions.TimeoutError):
        raise Interrupted(f"{origin.authority}: the connection broke: {_reason(error)}") from None
    raise RemoteError(f"{origin.authority}: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    """The innermost cause, in the system's words if possible, without the query of a URL."""
    seen = 0
    while (inner := error.__cause__ or error.__context__) is not None and seen < 8:
        error, seen = inner, seen + 1
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error) or type(error).__name__
    return printable(text)
