"""Connections with limits that urllib3 lacks.

A timeout of urllib3 limits a single read, so a server that sends a byte now and then can keep a client waiting forever.
Here a `Watch` limits each response: the headers have a deadline, the body has a lowest rate and a largest size. Every
connection also reports its peer's address before it sends a request.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 - urllib3 encodes names with it; if it cannot be imported, it is to fail here
import functools
import http.client
import io
import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from pybuild.remote.errors import RemoteError, TooSlow
from pybuild.values.limits import BLOB_SECONDS

if TYPE_CHECKING:
    import socket
    import ssl

    from urllib3.connectionpool import HTTPConnectionPool

    from pybuild.remote.http.proxies import Proxy
    from pybuild.remote.http.site import RemoteLimits
    from pybuild.remote.http.urls import Address

_BUFFER = 64 << 10
_HEADER_BYTES = 1 << 20  # http.client allows 100 headers of 64 KiB; real ones are far smaller
_MAX_OVERHEAD = 8  # bytes on the wire for each byte of the body: a chunk of one byte takes six


class Watch:
    """The time and bytes that are left for one response. Times are those of `time.monotonic`."""

    def __init__(
        self,
        limits: RemoteLimits,
        name: str,
        clock: Callable[[], float] = time.monotonic,
        answer_seconds: float | None = None,
    ) -> None:
        """`answer_seconds` is the time for the headers of the response; None: that of the limits."""
        self._limits = limits
        self._name = name  # of the server, for messages
        self._clock = clock
        self._in_body = False
        self._window_bytes = 0
        self._answer_seconds = limits.header_seconds if answer_seconds is None else answer_seconds
        self._window_end = clock() + self._answer_seconds  # first of the headers, then of each window of the body
        self._bytes_left = _HEADER_BYTES
        self._deadline = float("inf")

    def begin_body(self, size: int, deadline: float = float("inf")) -> None:
        """Begin to count for the body, which can have `size` bytes and must be complete at `deadline`."""
        self._in_body = True
        self._bytes_left = size * _MAX_OVERHEAD + _HEADER_BYTES
        self._deadline = deadline
        self._begin_window()

    def sent(self) -> None:
        """A piece of the request was sent. The time for the headers of the response begins after the last one."""
        self._window_end = self._clock() + self._answer_seconds

    def too_slow_to_send(self) -> TooSlow:
        """The error if the server did not take a piece of a request in time."""
        limits = self._limits
        return TooSlow(f"{self._name} took less than {limits.lowest_rate} bytes a second for {limits.rate_seconds} s")

    def read_timeout(self) -> float:
        """How many seconds the next read can wait. Raises TooSlow if none are left."""
        now = self._clock()
        if now >= self._deadline:
            raise self._too_slow()
        if now >= self._window_end:
            lowest = self._limits.lowest_rate * self._limits.rate_seconds
            if not self._in_body or self._window_bytes < lowest:
                raise self._too_slow()
            self._begin_window()
        return max(min(self._window_end, self._deadline) - now, 0.001)

    def add_bytes(self, size: int) -> None:
        """Count bytes that arrived. Raises RemoteError if they exceed the limit."""
        self._window_bytes += size
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise RemoteError(f"{self._name} sends more bytes than the limit", hint="the response might have no end")

    def _too_slow(self) -> TooSlow:
        if not self._in_body:
            return TooSlow(f"{self._name} sent no complete response within {self._answer_seconds:g} s")
        if self._clock() >= self._deadline:
            return TooSlow(f"{self._name} did not send everything in time", hint=BLOB_SECONDS.hint())
        return TooSlow(
            f"{self._name} sent less than {self._limits.lowest_rate} bytes a second for {self._limits.rate_seconds} s"
        )

    def _begin_window(self) -> None:
        self._window_bytes = 0
        self._window_end = self._clock() + self._limits.rate_seconds


class _WatchedReader(io.RawIOBase):
    """Reads a socket under a watch. `raw` is http.client's own reader of the socket, which keeps the socket open."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, watch: Watch) -> None:
        self._raw = raw
        self._sock = sock
        self._watch = watch

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            self._sock.settimeout(self._watch.read_timeout())
            try:
                size = self._sock.recv_into(buffer)
            except TimeoutError:
                continue  # the watch decides whether the time is up
            self._watch.add_bytes(size)
            return size

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _WatchedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, watch: Watch, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        raw = self.fp.detach()
        self.fp = io.BufferedReader(_WatchedReader(raw, sock, watch), _BUFFER)


class _Watched:
    """The common part of both kinds of connection."""

    sock: Any

    def __init__(self, *args: Any, hooks: Hooks, **options: Any) -> None:
        super().__init__(*args, **options)
        self._hooks = hooks

    @property
    def response_class(self) -> Callable[..., http.client.HTTPResponse]:
        """http.client calls this at the beginning of each response."""
        return functools.partial(_WatchedResponse, watch=self._hooks.watch())

    def send(self, data: Any) -> None:
        """Send a piece of a request, at least at the lowest rate. A used connection still has a timeout of its last read."""
        if self.sock is not None:
            self.sock.settimeout(self._hooks.send_seconds)
        watch = self._hooks.watch()
        try:
            super().send(data)  # type: ignore[misc]
        except TimeoutError as error:
            if self.sock is None:  # it did not connect: urllib3 says so
                raise
            raise watch.too_slow_to_send() from error
        watch.sent()

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        if self._hooks.on_peer is not None:
            self._hooks.on_peer(ipaddress.ip_address(self.sock.getpeername()[0].partition("%")[0]))


class _PlainConnection(_Watched, HTTPConnection):  # type: ignore[misc]
    pass


class _TlsConnection(_Watched, HTTPSConnection):  # type: ignore[misc]
    pass


@dataclass(frozen=True)
class Hooks:
    """Callbacks of connections."""

    watch: Callable[[], Watch]  # the watch for the response that begins
    on_peer: Callable[[Address], None] | None  # raises for a forbidden peer; None with a proxy: its address is allowed
    send_seconds: float  # the longest time to send one piece of a request


def direct_pool(hooks: Hooks, context: ssl.SSLContext | None, limits: RemoteLimits) -> urllib3.PoolManager:
    """Connections without a proxy. If `context` is None, they are for plain http only."""
    return _Direct(hooks, ssl_context=context, timeout=_timeout(limits), maxsize=1)


def proxied_pool(
    hooks: Hooks, context: ssl.SSLContext | None, limits: RemoteLimits, proxy: Proxy
) -> urllib3.PoolManager:
    """Connections through a proxy. Only the proxy sees the login for it. `context` as for `direct_pool`."""
    headers = urllib3.make_headers(proxy_basic_auth=proxy.login) if proxy.login is not None else None
    return _Proxied(
        hooks, str(proxy.origin), proxy_headers=headers, ssl_context=context, timeout=_timeout(limits), maxsize=1
    )


def _timeout(limits: RemoteLimits) -> urllib3.Timeout:
    return urllib3.Timeout(connect=limits.connect_seconds, read=limits.header_seconds)


def _watched(pool: HTTPConnectionPool, hooks: Hooks) -> HTTPConnectionPool:
    pool.ConnectionCls = _TlsConnection if pool.scheme == "https" else _PlainConnection
    pool.conn_kw["hooks"] = hooks
    return pool


class _Direct(urllib3.PoolManager):
    def __init__(self, hooks: Hooks, **options: Any) -> None:
        super().__init__(**options)
        self._hooks = hooks

    def _new_pool(
        self, scheme: str, host: str, port: int, request_context: dict[str, Any] | None = None
    ) -> HTTPConnectionPool:
        return _watched(super()._new_pool(scheme, host, port, request_context), self._hooks)


class _Proxied(urllib3.ProxyManager):
    def __init__(self, hooks: Hooks, proxy: str, **options: Any) -> None:
        super().__init__(proxy, **options)
        self._hooks = hooks

    def _new_pool(
        self, scheme: str, host: str, port: int, request_context: dict[str, Any] | None = None
    ) -> HTTPConnectionPool:
        return _watched(super()._new_pool(scheme, host, port, request_context), self._hooks)
