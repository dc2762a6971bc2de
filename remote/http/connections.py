"""Connections that keep to limits which urllib3 does not have.

Its time-outs are for one read each, so a server that sends a byte now and then holds a client for ever. Here the answer
of a server is read through a `Watch`: the headers have a deadline, the body a lowest rate and a number of bytes that
may come at all, and every connection tells whom it has reached before a request is sent.
"""

from __future__ import annotations

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

if TYPE_CHECKING:
    import socket
    import ssl

    from urllib3.connectionpool import HTTPConnectionPool

    from pybuild.remote.http.proxies import Proxy
    from pybuild.remote.http.site import RemoteLimits
    from pybuild.remote.http.urls import Address

_BUFFER = 64 << 10
_SLACK = 1 << 20  # headers, at most 100 of 64 KiB by http.client, mostly far less
_ENCODING = 8  # a chunk of one byte takes six


class Watch:
    """What one answer may still cost. Times are those of `time.monotonic`."""

    def __init__(self, limits: RemoteLimits, who: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._who = who
        self._clock = clock
        self._in_body = False
        self._bytes = 0  # in the present window
        self._end = clock() + limits.header_seconds  # of the headers, later of the present window
        self._left = _SLACK
        self._last = float("inf")

    def expect(self, size: int, deadline: float = float("inf")) -> None:
        """The headers are there; the body may have `size` bytes and has to be there at `deadline`."""
        self._in_body = True
        self._left = size * _ENCODING + _SLACK
        self._last = deadline
        self._begin_window()

    def seconds(self) -> float:
        """How long the next read may take. Raises TooSlow where nothing is left."""
        now = self._clock()
        if now >= self._last:
            raise self.too_slow()
        if now >= self._end:
            lowest = self._limits.lowest_rate * self._limits.rate_seconds
            if not self._in_body or self._bytes < lowest:
                raise self.too_slow()
            self._begin_window()
        return max(min(self._end, self._last) - now, 0.001)

    def count(self, size: int) -> None:
        """So much has come. Raises RemoteError where it is too much."""
        self._bytes += size
        self._left -= size
        if self._left < 0:
            raise RemoteError(f"{self._who} sends more than it may", hint="an answer without end")

    def too_slow(self) -> TooSlow:
        """The error that names the limit."""
        if not self._in_body:
            return TooSlow(f"{self._who} sent no complete answer within {self._limits.header_seconds} s")
        if self._clock() >= self._last:
            return TooSlow(f"{self._who} did not send everything in time", hint="limits.blob-seconds sets the time")
        return TooSlow(
            f"{self._who} sent less than {self._limits.lowest_rate} bytes a second for {self._limits.rate_seconds} s"
        )

    def _begin_window(self) -> None:
        self._bytes = 0
        self._end = self._clock() + self._limits.rate_seconds


class _WatchedReader(io.RawIOBase):
    """What comes from a socket, under a watch. `raw` is what http.client made of the socket: it keeps it open."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, watch: Watch) -> None:
        self._raw = raw
        self._sock = sock
        self._watch = watch

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            self._sock.settimeout(self._watch.seconds())
            try:
                size = self._sock.recv_into(buffer)
            except TimeoutError:
                continue  # the watch knows whether that is the end
            self._watch.count(size)
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
    """What both kinds of connection have in common."""

    sock: Any

    def __init__(self, *args: Any, hooks: Hooks, **options: Any) -> None:
        super().__init__(*args, **options)
        self._hooks = hooks

    @property
    def response_class(self) -> Callable[..., http.client.HTTPResponse]:
        """Asked by http.client whenever an answer begins."""
        return functools.partial(_WatchedResponse, watch=self._hooks.watch())

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
    """What connections ask: who watches the answer that begins, and whether the one they reached is right."""

    watch: Callable[[], Watch]
    on_peer: Callable[[Address], None] | None  # raises; None behind a proxy, whose address says nothing


def direct(hooks: Hooks, context: ssl.SSLContext | None, limits: RemoteLimits) -> urllib3.PoolManager:
    """Connections without a proxy; to servers without TLS alone where there is no context."""
    return _Direct(hooks, ssl_context=context, timeout=_timeout(limits), maxsize=1)


def proxied(hooks: Hooks, context: ssl.SSLContext, limits: RemoteLimits, proxy: Proxy) -> urllib3.PoolManager:
    """Connections through a proxy, which alone sees what it has to know of us."""
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
