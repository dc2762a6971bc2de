"""Requests to one site, and to the servers that it refers us to.

Redirects are followed by hand, because of the rules that hold for them: at most ten, never from https to http, never to
a link-local address, never from a public site to a private address (checked on the connection, too: a name may lead
anywhere), and what says who we are goes to the origin that it was meant for and to no other.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
import time
import warnings
from dataclasses import field
from typing import TYPE_CHECKING, NoReturn

import urllib3
from urllib3 import exceptions

from pybuild.remote.errors import RemoteError, Unreachable
from pybuild.remote.http.connections import Hooks, Watch, direct, proxied
from pybuild.remote.http.proxies import proxy_for
from pybuild.remote.http.trust import foreign_context, tls_context
from pybuild.remote.http.urls import Url, address_of, is_nobodys, is_private, printable
from pybuild.values import frozen
from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from pybuild.remote.http.site import RemoteLimits, Site
    from pybuild.remote.http.urls import Address, Origin

USER_AGENT = "pybuild"
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_SAFE = frozenset(("GET", "HEAD"))
_PIECE = 1 << 20
_WORTH_READING = 16 << 10
# What OpenSSL says when the other side does not speak TLS at all.
_NO_TLS = frozenset(
    ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_EOF_WHILE_READING", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
)  # fmt: skip


class Interrupted(RemoteError):
    """A connection broke, or a server is busy: the same request may succeed. `wait` is what the server asked for."""

    def __init__(self, message: str, *, hint: str | None = None, wait: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.wait = wait


class NoTls(Unreachable):
    """There is a server, and it does not speak TLS."""


class ConnectionRefused(Unreachable):
    """There is no server at that port."""


def published(error: PybuildError) -> PybuildError:
    """The same error as one of the classes of remote.errors: those here are for the tries between."""
    if isinstance(error, Interrupted | NoTls | ConnectionRefused):
        return Unreachable(str(error), hint=error.hint)
    return error


@frozen
class Request:
    """What to ask for. `authorization` is sent to the URL's own origin only."""

    method: str
    url: Url
    headers: Mapping[str, str] = field(default_factory=dict)
    authorization: str | None = field(default=None, repr=False)
    body: bytes | None = field(default=None, repr=False)


class Answer:
    """A status and headers, and a body that is still to be read. A context manager."""

    def __init__(self, request: Request, url: Url, response: urllib3.BaseHTTPResponse, watch: Watch) -> None:
        self.request = request
        self.url = url  # where redirects have led
        self.status = response.status
        self._response = response
        self._watch = watch

    def header(self, name: str) -> str:
        """The value of a header; "" where there is none."""
        return self._response.headers.get(name, "")

    def headers(self, name: str) -> list[str]:
        """All values of a header that may come more than once."""
        return list(self._response.headers.getlist(name))

    def length(self) -> int | None:
        """Content-Length in bytes; None where it is missing or no number."""
        text = self.header("Content-Length")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None

    def chunks(self, limit: int, deadline: float = float("inf")) -> Iterator[bytes]:
        """The body in the pieces in which it arrives, at most `limit` bytes and one more.

        Raises Interrupted where it breaks, TooSlow, RemoteError.
        """
        encoding = self.header("Content-Encoding")
        if encoding not in ("", "identity"):
            raise RemoteError(f"{self.url} answers in an encoding that was not asked for, {printable(encoding)}")
        self._watch.expect(limit, deadline)
        left = limit + 1
        while left > 0:
            try:
                piece = self._response.read1(min(left, _PIECE), decode_content=False)
            except exceptions.HTTPError as error:
                raise Interrupted(f"{self.url.origin}: the connection broke: {_reason(error)}") from None
            except (http.client.HTTPException, ValueError, OSError) as error:
                raise Interrupted(f"{self.url.origin}: the answer is damaged: {printable(str(error))}") from None
            if not piece:
                return
            left -= len(piece)
            yield piece

    def read(self, limit: int, what: str, name: str) -> bytes:
        """The whole body. Raises RemoteError where it is longer than `limit`."""
        data = b"".join(self.chunks(limit))
        if len(data) > limit:
            raise RemoteError(f"{self.url.origin} sends {what} of more than {limit} bytes", hint=f"limits.{name}")
        return data

    def close(self) -> None:
        """Be done with it. What little is left of it is read, so that the connection can serve again."""
        length = self.length()
        if length is not None and length <= _WORTH_READING:
            with contextlib.suppress(RemoteError):
                for _ in self.chunks(length):
                    pass
        self._response.close()

    def __enter__(self) -> Answer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Transport:
    """The connections that one site needs."""

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
        # Unknown for a name until it has been reached.
        self._site_is_private: bool | None = None if address is None else private(address)
        self._pools: dict[Origin, urllib3.PoolManager] = {}

    def request(self, request: Request) -> Answer:
        """Send, and follow redirects. Raises Unreachable, Interrupted, TooSlow, RemoteError."""
        url, authorization = request.url, request.authorization
        self.check_target(url.origin)
        for _ in range(self._limits.redirects + 1):
            answer = self._exchange(request, url, authorization)
            location = answer.header("Location")
            if answer.status not in _REDIRECTS or not location:
                return answer
            answer.close()
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

    def check_target(self, origin: Origin) -> None:
        """Raise RemoteError for an address that nobody must send us to, not a recipe either."""
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
        who = f"{origin.authority} is" if self._is_own(origin) else f"{self._site.name} refers to {origin.authority},"
        if is_nobodys(address):
            raise RemoteError(f"{who} an address that no server of others has")
        if not self._is_own(origin) and self._is_private(address) and not self._site_is_private:
            raise RemoteError(
                f"{self._site.name} refers to {origin.authority}, a private address, which is not followed"
            )

    def _exchange(self, request: Request, url: Url, authorization: str | None) -> Answer:
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **request.headers}
        if authorization is not None:
            headers["Authorization"] = authorization
        self._watch = watch = Watch(self._limits, url.origin.authority, self._clock)
        pool = self._pool(url.origin)
        try:
            with warnings.catch_warnings():
                # A certificate that is not verified is what the user asked for.
                warnings.simplefilter("ignore", exceptions.InsecureRequestWarning)
                response = pool.urlopen(
                    request.method,
                    f"{url.origin}{url.target}",
                    body=request.body,
                    headers=headers,
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    decode_content=False,
                )
        except exceptions.HTTPError as error:
            _translate(error, url.origin)
        except (http.client.HTTPException, ValueError, OSError) as error:
            raise Interrupted(f"{url.origin}: {printable(str(error))}") from None
        return Answer(request, url, response, watch)

    def _pool(self, origin: Origin) -> urllib3.PoolManager:
        if origin not in self._pools:
            proxy = proxy_for(origin, self._environ)
            if proxy is None:
                hooks = Hooks(lambda: self._watch, lambda address: self._reached(address, origin))
                # The system's authorities take longer to read than a small file to fetch.
                context = self._trust(origin) if origin.scheme == "https" else None
                self._pools[origin] = direct(hooks, context, self._limits)
            else:
                hooks = Hooks(lambda: self._watch, None)
                self._pools[origin] = proxied(hooks, self._trust(origin), self._limits, proxy)
        return self._pools[origin]

    def _trust(self, origin: Origin) -> ssl.SSLContext:
        return tls_context(self._site, self._environ) if self._is_own(origin) else foreign_context(self._environ)

    def _reached(self, address: Address, origin: Origin) -> None:
        self._check_address(address, origin)
        if self._is_own(origin) and self._site_is_private is None:
            self._site_is_private = self._is_private(address)


def _translate(error: exceptions.HTTPError, origin: Origin) -> NoReturn:
    """Raise what an error of urllib3 means to us."""
    if isinstance(error, exceptions.ProxyError):
        raise Unreachable(f"{origin.authority}: the proxy does not connect: {_reason(error)}") from None
    if isinstance(error, exceptions.SSLError):
        cause = error.args[0] if error.args else None
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise Unreachable(
                f"{origin.authority}: its certificate is not trusted: {cause.verify_message}",
                hint="ca-files in the configuration adds an authority, --tls-verify=false takes any certificate",
            ) from None
        if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
            raise NoTls(
                f"{origin.authority} does not speak TLS", hint="plain-http in the configuration allows to do without"
            ) from None
        raise Unreachable(f"{origin.authority}: no TLS connection: {_reason(error)}") from None
    if isinstance(error, exceptions.NameResolutionError):
        raise Unreachable(f"{origin.host}: the name cannot be resolved", hint="is the name right?") from None
    if isinstance(error, exceptions.NewConnectionError):
        raise ConnectionRefused(f"{origin.authority}: no connection: {_reason(error)}") from None
    if isinstance(error, exceptions.ConnectTimeoutError):
        raise Interrupted(f"{origin.authority}: no connection in time", hint="limits.connect-seconds") from None
    if isinstance(error, exceptions.ProtocolError | exceptions.TimeoutError):
        raise Interrupted(f"{origin.authority}: the connection broke: {_reason(error)}") from None
    raise RemoteError(f"{origin.authority}: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    """The innermost cause in the system's words, without what a URL may hold."""
    seen = 0
    while (inner := error.__cause__ or error.__context__) is not None and seen < 8:
        error, seen = inner, seen + 1
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error) or type(error).__name__
    return printable(text)
