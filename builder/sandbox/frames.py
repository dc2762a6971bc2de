"""Messages between the main process and its workers: JSON objects with a length prefix, over a stream socket.

A frame is the length of its text (four bytes, big-endian), the number of its descriptors (one byte) and the text. The
descriptors are sent with the first byte of their frame (unix(7), SCM_RIGHTS). One read can return the end of a frame and
the descriptors of the next one, but never those of two frames; so the number says which batch belongs to which frame. File
names in a message are text decoded with `surrogateescape`.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
from collections import deque

TYPE_CHECKING = False  # importing typing takes longer than importing this module
if TYPE_CHECKING:
    from collections.abc import Sequence

    Message = dict[str, object]

_HEADER = struct.Struct(">IB")
LIMIT = 256 << 20  # bytes of one frame; far more than a step needs, far less than memory
_MAX_FDS = 16


class Channel:
    """One end of a connection. Its methods raise EOFError when the other end is gone, or what it sends is damaged."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._buffer = bytearray()
        self._batches: deque[list[int]] = deque()  # descriptors, one list for each frame that has some

    def fileno(self) -> int:
        """For selectors."""
        return self.socket.fileno()

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send one message with duplicates of the descriptors. The caller still has to close its own."""
        text = json.dumps(message, separators=(",", ":")).encode("ascii")
        data = _HEADER.pack(len(text), len(fds)) + text
        try:
            sent = socket.send_fds(self.socket, [data], list(fds)) if fds else self.socket.send(data)
            if sent < len(data):  # an empty sendall could fail: the reader, which has the whole message, might be gone
                self.socket.sendall(data[sent:])
        except (BrokenPipeError, ConnectionResetError):
            raise EOFError("the other end is gone") from None

    def receive(self) -> tuple[Message, list[int]]:
        """Wait for the next message; return it and its descriptors.

        Raises OSError if some of its descriptors are lost, because this process or the machine can open no more: the
        others are closed then, and the next message can be received.
        """
        while (found := self._next()) is None:
            self._read()
        return found

    def has_message(self) -> bool:
        """Whether the next message has arrived here already: the socket is then not readable because of it."""
        if len(self._buffer) < _HEADER.size:
            return False
        length, _ = _HEADER.unpack_from(self._buffer)
        return bool(length > LIMIT or len(self._buffer) >= _HEADER.size + length)

    def _next(self) -> tuple[Message, list[int]] | None:
        if len(self._buffer) < _HEADER.size:
            return None
        length, count = _HEADER.unpack_from(self._buffer)
        if length > LIMIT:
            raise EOFError(f"a frame of {length} bytes exceeds the limit of {LIMIT}")
        end = _HEADER.size + length
        if len(self._buffer) < end:
            return None
        message = _message(bytes(self._buffer[_HEADER.size : end]))
        del self._buffer[:end]
        fds = self._batches.popleft() if count and self._batches else []
        if len(fds) != count:
            for fd in fds:
                os.close(fd)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return message, fds

    def _read(self) -> None:
        try:
            data, fds, flags, _ = socket.recv_fds(self.socket, 1 << 20, _MAX_FDS, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            data, fds, flags = b"", [], 0
        if fds or flags & socket.MSG_CTRUNC:  # truncated: the kernel could not open them all here
            self._batches.append(fds)
        if not data:
            raise EOFError("the other end is gone")
        self._buffer += data

    def close(self) -> None:
        self.socket.close()


def _message(text: bytes) -> Message:
    try:
        message: Message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EOFError(f"a frame is not JSON: {error}") from None
    if not isinstance(message, dict):
        raise EOFError("a frame is not a JSON object")
    return message
