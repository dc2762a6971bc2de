"""A proxy that makes a registry on this machine as slow as one far away: python -m bench.slow_proxy HOST:PORT.

It adds 20 ms to each answer, and gives 50 MB/s to all connections together. It prints its own address. For each line of
its standard input it prints the exchanges since the last one, as a line of JSON. It ends when its standard input does.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from dataclasses import astuple
from typing import TYPE_CHECKING

from bench.exchanges import Exchange
from bench.http_log import ConnectionLog, HttpLog

if TYPE_CHECKING:
    from types import TracebackType

_DELAY = 0.02  # seconds
_RATE = 50e6  # bytes a second
_PIECE = 64 << 10


class SlowProxy:
    """A process with the proxy, in front of a registry that speaks plain http. A context manager; `host` is its address."""

    def __init__(self, registry: str) -> None:
        """`registry` is its host:port."""
        command = (sys.executable, "-m", "bench.slow_proxy", registry)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.host = self._answer()

    def exchanges(self) -> list[Exchange]:
        """The requests since the last call, and their answers."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return [Exchange(*fields) for fields in json.loads(self._answer())]

    def __enter__(self) -> SlowProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


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
    def __init__(self, client: socket.socket, server: socket.socket, line: _Line, log: HttpLog) -> None:
        self._client = client
        self._server = server
        self._line = line
        self._log = ConnectionLog(log)
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
                    self._log.client(data, time.monotonic())
                    self._asked = True
                elif self._asked:
                    self._asked = False
                    time.sleep(_DELAY)
                self._line.pass_through(len(data))
                if source is self._server:  # before the client can act upon it
                    self._log.server(data, time.monotonic())
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def main() -> None:
    """Serve until standard input ends."""
    host, _, port = sys.argv[1].partition(":")
    line, log = _Line(), HttpLog()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(f"127.0.0.1:{listener.getsockname()[1]}", flush=True)

        def serve() -> None:
            while True:
                client, _ = listener.accept()
                _Connection(client, socket.create_connection((host, int(port))), line, log).start()

        threading.Thread(target=serve, daemon=True).start()
        for _ in sys.stdin:
            print(json.dumps([astuple(one) for one in log.take()]), flush=True)


if __name__ == "__main__":
    main()
