"""A token server on the loopback interface, which a docker-registry trusts.

It signs what distribution's token specification asks for: a JWT (RFC 7519) with the certificate of its key (x5c) and the
access that a user has of what was asked for.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SERVICE, ISSUER = "test-registry", "test-issuer"


@dataclass
class TokenServer:
    """What it knows, and what it was asked. `users` are passwords, `rights` actions by user and beginning of a repository."""

    directory: Path
    users: Mapping[str, str]
    rights: Mapping[str, Mapping[str, frozenset[str]]]
    host: str = ""
    asked: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)  # user, scopes

    @property
    def config(self) -> str:
        """The line of a registry's configuration."""
        bundle = self.directory / "token.crt"
        realm = f"http://{self.host}/token"
        return f"auth: {{token: {{realm: '{realm}', service: {SERVICE}, issuer: {ISSUER}, rootcertbundle: {bundle}}}}}"

    def user(self, authorization: str) -> str | None:
        """The user of a Basic header; "" without one, None if the password is wrong."""
        if not authorization:
            return ""
        name, _, password = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        return name if self.users.get(name) == password else None

    def token(self, user: str, scopes: tuple[str, ...]) -> str:
        """A token for that part of the scopes that the user has."""
        access = []
        for scope in scopes:
            kind, name, actions = scope.rsplit(":", 2) if scope.count(":") == 2 else ("", "", "")
            allowed: set[str] = set()
            for beginning, rights in self.rights.get(user, {}).items():
                allowed |= rights if name.startswith(beginning) else set()
            access.append({"type": kind, "name": name, "actions": sorted(allowed & set(actions.split(",")))})
        now = int(time.time())
        der = subprocess.run(
            ["openssl", "x509", "-in", self.directory / "token.crt", "-outform", "DER"], check=True, capture_output=True
        ).stdout
        header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        claims = {
            "iss": ISSUER, "sub": user, "aud": SERVICE, "iat": now, "nbf": now - 60, "exp": now + 600, "jti": str(len(self.asked)),
            "access": access,
        }  # fmt: skip
        signed = b".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
        sign: list[str | Path] = ["openssl", "dgst", "-sha256", "-sign", self.directory / "token.key"]
        signature = subprocess.run(sign, input=signed, check=True, capture_output=True).stdout
        return (signed + b"." + _base64(signature)).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    tokens: TokenServer

    def do_GET(self) -> None:
        scopes = tuple(" ".join(parse_qs(urlsplit(self.path).query).get("scope", [])).split())
        user = self.tokens.user(self.headers.get("Authorization", ""))
        if user is None:
            self._answer(401, {})
            return
        self.tokens.asked.append((user, scopes))
        self._answer(200, {"token": self.tokens.token(user, scopes), "expires_in": 600})

    def _answer(self, status: int, fields: Mapping[str, object]) -> None:
        body = json.dumps(fields).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def token_server(
    directory: Path, users: Mapping[str, str], rights: Mapping[str, Mapping[str, frozenset[str]]]
) -> Iterator[TokenServer]:
    """Run a token server with its key in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    new: list[str | Path] = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tokens"]
    files: list[str | Path] = ["-keyout", directory / "token.key", "-out", directory / "token.crt"]
    subprocess.run([*new, *files], check=True, capture_output=True)
    tokens = TokenServer(directory, users, rights)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"tokens": tokens}))
    server.daemon_threads = True
    tokens.host = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield tokens
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
