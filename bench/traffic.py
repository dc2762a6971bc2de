"""Counts what crosses the network: a proxy on the loopback interface, in front of a registry that speaks plain http."""

from __future__ import annotations

import contextlib
import re
import socket
import threading

from bench.exchanges import Moved

_REQUEST = re.compile(rb"^(?:GET|HEAD|POST|PUT|PATCH|DELETE) [^\r\n]+ HTTP/1\.1\r\n", re.MULTILINE)
_LINE = 4096  # bytes; a longer request line is not seen as one
_PIECE = 1 << 18


class Traffic:
    """Passes on all connections to a registry. A context manager; `host` stands for the registry in names of images."""

    def __init__(self, registry: str) -> None:
        """`registry` is its host:port."""
        host, _, port = registry.rpartition(":")
        self._target = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._bytes = self._requests = 0  # since `reset`
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self, contender: str) -> None:
        """Begin to count."""
        with self._lock:
            self._bytes = self._requests = 0

    def read(self) -> Moved:
        """What was sent and received since `reset`."""
        with self._lock:
            return Moved(self._bytes, self._requests)

    def __enter__(self) -> Traffic:
        return self

    def __exit__(self, *_: object) -> None:
        # shutdown(2) wakes accept(2) up, close(2) does not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=(source, sink, source is client), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, is_client: bool) -> None:
        """Pass on one direction of a connection until it ends."""
        seen = b""  # the end of what was passed on, in which a request line may have begun
        with contextlib.suppress(OSError):
            while piece := source.recv(_PIECE):
                requests = 0
                if is_client:
                    seen += piece
                    found = list(_REQUEST.finditer(seen))
                    requests = len(found)
                    seen = seen[found[-1].end() if found else 0 :][-_LINE:]
                with self._lock:
                    self._bytes += len(piece)
                    self._requests += requests
                sink.sendall(piece)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        if not is_client:
            source.close()
            sink.close()
