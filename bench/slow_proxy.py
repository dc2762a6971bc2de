"""A proxy that makes a registry on this machine as slow as one far away: python -m bench.slow_proxy HOST:PORT.

It adds 20 ms to each answer, and gives 50 MB/s to all connections together. It prints its own address, and ends when its
standard input does.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time

_DELAY = 0.02  # seconds
_RATE = 50e6  # bytes a second
_PIECE = 64 << 10


class _Line:
    """The time at which the line is free again; all connections share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free = 0.0

    def pass_through(self, size: int) -> None:
        """Wait until so many bytes have passed."""
        with self._lock:
            self._free = max(self._free, time.monotonic()) + size / _RATE
            wait = self._free - time.monotonic()
        if wait > 0.002:  # shorter waits add up in `_free`
            time.sleep(wait)


class _Connection:
    def __init__(self, client: socket.socket, server: socket.socket, line: _Line) -> None:
        self._client = client
        self._server = server
        self._line = line
        self._asked = False  # the client has sent something since the last answer began

    def start(self) -> None:
        for one in (self._client, self._server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self._relay, args=(self._client, self._server), daemon=True).start()
        threading.Thread(target=self._relay, args=(self._server, self._client), daemon=True).start()

    def _relay(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                if source is self._client:
                    self._asked = True
                elif self._asked:
                    self._asked = False
                    time.sleep(_DELAY)
                self._line.pass_through(len(data))
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def main() -> None:
    """Serve until standard input ends."""
    host, _, port = sys.argv[1].partition(":")
    line = _Line()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(f"127.0.0.1:{listener.getsockname()[1]}", flush=True)

        def serve() -> None:
            while True:
                client, _ = listener.accept()
                _Connection(client, socket.create_connection((host, int(port))), line).start()

        threading.Thread(target=serve, daemon=True).start()
        sys.stdin.read()


if __name__ == "__main__":
    main()
