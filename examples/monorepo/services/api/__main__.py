"""The server: GET /?text=… answers with the numbers as JSON."""

import json
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from shared.words import count


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        text = parse_qs(urlsplit(self.path).query).get("text", [""])[0]
        body = json.dumps({"words": count(text)}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    # Process 1 of a container gets no default handlers for signals.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    ThreadingHTTPServer(("", 8080), Handler).serve_forever()
