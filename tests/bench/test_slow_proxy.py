"""The proxy passes everything on, and tells what it has passed on."""

from __future__ import annotations

import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from bench.slow_proxy import SlowProxy

_BODY = bytes(range(256)) * 1000


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


def test_the_log_of_the_proxy() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        with SlowProxy(f"127.0.0.1:{server.server_port}") as proxy:
            for path in ("/first", "/second"):
                request = urllib.request.Request(f"http://{proxy.host}{path}", _BODY, method="PUT")
                with urllib.request.urlopen(request) as answer:
                    assert answer.read() == _BODY
            first, second = proxy.exchanges()
            assert proxy.exchanges() == []
    finally:
        server.shutdown()
        server.server_close()
    assert (first.method, first.target, first.status) == ("PUT", "/first", 201)
    assert second.target == "/second"
    assert first.start < first.end <= second.start < second.end
    assert first.sent > len(_BODY) and first.received > len(_BODY)
