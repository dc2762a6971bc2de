"""Reads the requests and answers in the two byte streams of a connection that a proxy passes on."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.exchanges import Exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HEAD = 1 << 16  # bytes; what has a longer head is not seen as HTTP
_FIRST_LETTERS = frozenset(b"CDGHOPT")  # of the methods of HTTP and of its answers; a TLS handshake begins with 0x16


class HttpLog:
    """The exchanges of all connections of a proxy. Any thread may call it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._exchanges: list[_Open] = []

    def add(self, exchange: _Open) -> None:
        """Note a request that has begun. The caller has the lock."""
        self._exchanges.append(exchange)

    def take(self) -> list[Exchange]:
        """Return what was noted since the last call, requests without an answer included."""
        with self.lock:
            found, self._exchanges = self._exchanges, []
            return [one.exchange() for one in found]


class ConnectionLog:
    """The exchanges of one connection. Times are in seconds and do not decrease."""

    def __init__(self, log: HttpLog) -> None:
        self._log = log
        self._requests, self._answers = _Stream(), _Stream()
        self._waiting: list[_Open] = []  # in the order of their answers

    def client(self, data: bytes, now: float) -> None:
        """Note bytes that the client sends."""
        with self._log.lock:
            for piece in self._requests.pieces(data):
                if piece.begins:
                    self._waiting.append(_Open(now))
                    self._log.add(self._waiting[-1])
                if self._waiting:  # else it is the rest of a request that was answered early
                    self._waiting[-1].sent += piece.size
                    if piece.head:
                        self._waiting[-1].method, self._waiting[-1].target = _request_line(piece.head)

    def server(self, data: bytes, now: float) -> None:
        """Note bytes that the server sends, before they are passed on."""
        with self._log.lock:
            for piece in self._answers.pieces(data, self._asks_for_head):
                if not self._waiting:
                    continue
                one = self._waiting[0]
                one.received += piece.size
                one.end = now
                if piece.head:
                    one.status = _status(piece.head)
                if piece.ends and one.method and one.status >= 200:
                    self._waiting.pop(0)

    def _asks_for_head(self) -> bool:
        return bool(self._waiting) and self._waiting[0].method == "HEAD"


class _Open:
    """An exchange of which more can come."""

    def __init__(self, start: float) -> None:
        self.start = self.end = start
        self.method = self.target = ""
        self.status = self.sent = self.received = 0

    def exchange(self) -> Exchange:
        return Exchange(self.method, self.target, self.status, self.start, self.end, self.sent, self.received)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A piece of a message: how many bytes, whether a message begins and ends with it, and the head that ends in it."""

    size: int
    begins: bool = False
    ends: bool = False
    head: bytes = b""


class _Stream:
    """Cuts one direction of a connection into messages."""

    def __init__(self) -> None:
        self._line = b""  # the begin of a head, or of a line between chunks
        self._inside = False  # a message has begun
        self._left = 0  # bytes of the body or the chunk
        self._chunked = self._trailer = False
        self._endless = False  # the rest of the stream is one message, or is not HTTP

    def pieces(self, data: bytes, bodiless: Callable[[], bool] = lambda: False) -> Iterator[_Piece]:
        """Cut more data. `bodiless` says whether the message has no body, whatever its head says: an answer to HEAD."""
        while data:
            piece = self._piece(data, bodiless)
            self._inside = not piece.ends
            data = data[piece.size :]
            yield piece

    def _piece(self, data: bytes, bodiless: Callable[[], bool]) -> _Piece:
        begins = not self._inside
        if begins and data[0] not in _FIRST_LETTERS:
            self._endless = True
        if self._endless:
            return _Piece(len(data), begins)
        if self._left:
            size = min(self._left, len(data))
            self._left -= size
            return _Piece(size, ends=not self._left and not self._chunked)
        line, size = self._take_line(data, b"\r\n" if self._chunked else b"\r\n\r\n")
        if not line:
            return _Piece(size, begins)
        if self._chunked:
            return _Piece(size, ends=self._ends_with(line))
        self._read_head(line, bodiless)
        return _Piece(size, begins, not (self._left or self._chunked or self._endless), line)

    def _take_line(self, data: bytes, end: bytes) -> tuple[bytes, int]:
        """What ends in the data with `end` (b"" if nothing does), and how many bytes of the data belong to it."""
        before = len(self._line)
        self._line += data[:_HEAD]
        found = self._line.find(end)
        if found < 0:
            self._endless = len(self._line) > _HEAD
            return b"", len(self._line) - before
        line, self._line = self._line[: found + len(end)], b""
        return line, len(line) - before

    def _ends_with(self, line: bytes) -> bool:
        """Read a line between chunks, which is the size of the next one or part of the trailer. An empty line ends it."""
        if self._trailer:
            self._trailer = self._chunked = line != b"\r\n"
            return not self._chunked
        size = int(line.split(b";")[0], 16)
        self._trailer = size == 0
        self._left = size + len(b"\r\n") if size else 0
        return False

    def _read_head(self, head: bytes, bodiless: Callable[[], bool]) -> None:
        fields = {}
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            fields[name.lower()] = value.strip().lower()
        is_answer = head.startswith(b"HTTP/")
        if bodiless() or (is_answer and (_status(head) < 200 or _status(head) in (204, 304))):
            return
        if b"chunked" in fields.get(b"transfer-encoding", b""):
            self._chunked = True
        elif b"content-length" in fields:
            self._left = int(fields[b"content-length"])
        else:
            self._endless = is_answer  # its body ends with the connection


def _request_line(head: bytes) -> tuple[str, str]:
    method, target, *_ = head.split(b"\r\n")[0].decode("latin-1").split(" ")
    return method, target


def _status(head: bytes) -> int:
    return int(head.split(b" ", 2)[1])
