"""Git repositories for tests, and servers for them on the loopback interface."""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.server
import os
import ssl
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIME = 1_500_000_000  # of all commits, seconds since the epoch
_ENVIRONMENT = {
    "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "LC_ALL": "C",
    "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.invalid", "GIT_AUTHOR_DATE": f"{TIME} +0000",
    "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.invalid", "GIT_COMMITTER_DATE": f"{TIME} +0000",
}  # fmt: skip


@dataclass(frozen=True)
class Repository:
    """A bare repository that a test fills."""

    path: Path

    def git(self, *arguments: str, stdin: bytes = b"", **environment: str) -> str:
        done = subprocess.run(
            ["git", "-c", "safe.directory=*", *arguments],
            env={**_ENVIRONMENT, "PATH": os.environ["PATH"], "GIT_DIR": str(self.path), **environment},
            input=stdin,
            capture_output=True,
        )
        assert done.returncode == 0, f"git {arguments}: {done.stderr.decode()}"
        return done.stdout.decode().strip()

    def blob(self, content: bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", stdin=content)

    def tree(self, rows: list[tuple[str, str, str]]) -> str:
        """Make a tree from rows of mode, object and name. Names are not checked."""
        kinds = {"040000": "tree", "160000": "commit"}
        text = "".join(f"{mode} {kinds.get(mode, 'blob')} {name}\t{path}\0" for mode, name, path in rows)
        return self.git("mktree", "-z", "--missing", stdin=text.encode())

    def commit(self, files: dict[str, str | bytes], branch: str = "main", *, parent: str | None = None) -> str:
        """Commit these files. A name ending in `*` is executable, in `@` a link, in `/` a submodule's commit."""
        nested: dict[str, Any] = {}
        for path, content in files.items():
            *above, name = path.rstrip("/").split("/")
            here = nested
            for part in above:
                here = here.setdefault(part, {})
            here[name + "/" if path.endswith("/") else name] = content
        return self.commit_tree(self._tree(nested), branch, parent=parent)

    def commit_tree(self, tree: str, branch: str = "main", *, parent: str | None = None) -> str:
        commit = self.git("commit-tree", "-m", "message", *(["-p", parent] if parent else []), tree)
        self.git("update-ref", f"refs/heads/{branch}", commit)
        return commit

    def _tree(self, nested: dict[str, Any]) -> str:
        rows = []
        for name, content in nested.items():
            if isinstance(content, dict):
                rows.append(("040000", self._tree(content), name))
            elif name.endswith("/"):
                rows.append(("160000", content, name[:-1]))
            else:
                mode = {"*": "100755", "@": "120000"}.get(name[-1:], "100644")
                data = content if isinstance(content, bytes) else content.encode()
                rows.append((mode, self.blob(data), name.rstrip("*@")))
        return self.tree(rows)


def make_repository(path: Path, *, object_format: str = "sha1") -> Repository:
    path.mkdir(parents=True)
    found = Repository(path)
    found.git("init", "-q", "--bare", "--template=", "-b", "main", f"--object-format={object_format}", str(path))
    found.git("config", "http.receivepack", "false")
    return found


@dataclass
class GitServer:
    """The state of a server. `before` can answer a request; it then returns true."""

    url: str
    host: str
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)  # path with query, headers in lower case
    bodies: list[bytes] = field(default_factory=list)
    login: str | None = None
    version: str | None = None  # of the git protocol, whichever the client requests
    before: Callable[[Handler], bool] = lambda handler: False


class Handler(http.server.BaseHTTPRequestHandler):
    """git http-backend as a CGI program: git-http-backend(1)."""

    root: Path
    state: GitServer
    server: http.server.ThreadingHTTPServer

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.state.seen.append((self.path, headers))
        self.body = self.rfile.read(int(headers.get("content-length", 0)))
        if headers.get("content-encoding") == "gzip":
            self.body = gzip.decompress(self.body)
        self.state.bodies.append(self.body)
        login = self.state.login
        if login is not None and headers.get("authorization") != "Basic " + base64.b64encode(login.encode()).decode():
            self.plain(401, **{"WWW-Authenticate": 'Basic realm="x"'})
            return
        if not self.state.before(self):
            self.backend(headers)

    do_POST = do_GET

    def plain(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def until_closed(self) -> None:
        """Send nothing until the client closes the connection."""
        with contextlib.suppress(OSError):
            while self.connection.recv(1 << 16):
                pass

    def endless(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-git-upload-pack-result")
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(data)

    def plain_file(self) -> bool:
        """Answer like a server of static files (the dumb protocol)."""
        path = Path(f"{self.root}{self.path.partition('?')[0]}")
        if not path.is_file():
            self.plain(404)
            return True
        data = path.read_bytes()
        self.plain(200, **{"Content-Length": str(len(data))})
        self.wfile.write(data)
        return True

    def backend(self, headers: dict[str, str]) -> None:
        path, _, query = self.path.partition("?")
        done = subprocess.run(
            ["git", "-c", "safe.directory=*", "http-backend"],
            env={
                **_ENVIRONMENT, "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(self.root), "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_ADDR": "127.0.0.1",
                "CONTENT_TYPE": headers.get("content-type", ""), "CONTENT_LENGTH": str(len(self.body)),
                "GIT_PROTOCOL": self.state.version or headers.get("git-protocol", ""),
            },
            input=self.body,
            capture_output=True,
        )  # fmt: skip
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        answer = dict(line.decode().split(": ", 1) for line in head.split(b"\r\n") if b": " in line)
        self.plain(int(answer.pop("Status", "200").split()[0]), **{**answer, "Content-Length": str(len(content))})
        with contextlib.suppress(OSError):
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def git_server(root: Path, certificate: Path | None = None) -> Iterator[GitServer]:
    """Serve all repositories below a directory over http, or over https with a directory of server.crt and server.key."""
    handler = type("Served", (Handler,), {"root": root})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate / "server.crt", certificate / "server.key")
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    host = f"127.0.0.1:{server.server_address[1]}"
    handler.state = state = GitServer(f"http{'s' if certificate else ''}://{host}", host)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
