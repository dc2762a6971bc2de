"""Messages between the main process and its workers: JSON objects with a length before them, over a stream socket.

A frame is four bytes (big-endian length of the text) and the text. Descriptors travel with the first byte of the
frame they belong to (unix(7), SCM_RIGHTS). File names inside are text decoded with `surrogateescape`.
"""

from __future__ import annotations

import json
import socket
import struct

TYPE_CHECKING = False  # typing itself costs more to import than all of this
if TYPE_CHECKING:
    from collections.abc import Sequence

    Message = dict[str, object]

_LENGTH = struct.Struct(">I")
LIMIT = 256 << 20  # bytes of one frame; far above what a step needs, far below what would hurt
_MAX_FDS = 16


class Channel:
    """One end of a connection. Raises EOFError when the other end is gone."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._buffer = bytearray()
        self._fds: list[int] = []

    def fileno(self) -> int:
        """For selectors."""
        return self.socket.fileno()

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send one message; the descriptors are duplicated, the caller keeps its own."""
        text = json.dumps(message, separators=(",", ":")).encode("ascii")
        data = _LENGTH.pack(len(text)) + text
        try:
            sent = socket.send_fds(self.socket, [data], list(fds)) if fds else self.socket.send(data)
            if sent < len(data):  # who has read all of it may be gone by now
                self.socket.sendall(data[sent:])
        except (BrokenPipeError, ConnectionResetError):
            raise EOFError("the other end is gone") from None

    def receive(self) -> tuple[Message, list[int]]:
        """The next message and the descriptors that came with it; waits for it."""
        while (message := self._next()) is None:
            self._read()
        fds, self._fds = self._fds, []
        return message, fds

    def _next(self) -> Message | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > LIMIT:
            raise EOFError(f"a frame of {length} bytes exceeds the limit of {LIMIT}")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        message: Message = json.loads(bytes(self._buffer[_LENGTH.size : end]))
        del self._buffer[:end]
        return message

    def _read(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self.socket, 1 << 20, _MAX_FDS, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            data, fds = b"", []
        self._fds += fds
        if not data:
            raise EOFError("the other end is gone")
        self._buffer += data

    def close(self) -> None:
        self.socket.close()
