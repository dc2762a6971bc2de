"""Debian's docker-registry on the loopback interface, open or with a password, with or without TLS."""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LISTENING = re.compile(rb"listening on (127\.0\.0\.1:[0-9]+)")


@dataclass(frozen=True)
class DockerRegistry:
    """A running registry."""

    host: str  # 127.0.0.1:port
    authority: Path | None = None  # PEM of the CA behind its certificate
    login: tuple[str, str] | None = None

    def push(self, archive: Path, name: str, *options: str) -> str:
        """Push an image from an OCI archive with skopeo; return its full name."""
        target = f"{self.host}/{name}"
        credentials = [f"--dest-creds={':'.join(self.login)}"] if self.login else []
        command = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", *credentials, *options]
        subprocess.run([*command, f"oci-archive:{archive}", f"docker://{target}"], check=True, capture_output=True)
        return target

    def digest(self, name: str) -> str:
        """The digest of an image in it, as skopeo says."""
        credentials = [f"--creds={':'.join(self.login)}"] if self.login else []
        command = ["skopeo", "inspect", "--tls-verify=false", *credentials, "--format={{.Digest}}", f"docker://{self.host}/{name}"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def docker_registry(
    directory: Path, *, tls: bool = False, login: tuple[str, str] | None = None, auth: str = ""
) -> Iterator[DockerRegistry]:
    """Run a registry on a free port, with its files in `directory`. It ends with the context, or with this process.

    `auth` is the line of the configuration for another way to log in than a password.
    """
    directory.mkdir(parents=True, exist_ok=True)
    authority = make_certificate(directory) if tls else None
    config = [
        "version: 0.1",
        "log: {level: info, accesslog: {disabled: true}}",
        f"storage: {{filesystem: {{rootdirectory: {directory}/data}}, delete: {{enabled: true}}}}",
        "http:",
        "  addr: 127.0.0.1:0",
    ]
    if tls:
        config.append(f"  tls: {{certificate: {directory}/server.crt, key: {directory}/server.key}}")
    if login is not None:
        line = subprocess.run(["htpasswd", "-Bbn", "-C", "4", *login], check=True, capture_output=True).stdout
        (directory / "htpasswd").write_bytes(line)
        config.append(f"auth: {{htpasswd: {{realm: test, path: {directory}/htpasswd}}}}")
    config += [auth] if auth else []
    (directory / "config.yml").write_text("\n".join(config) + "\n")
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "docker-registry", "serve", directory / "config.yml"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "OTEL_TRACES_EXPORTER": "none"},
    )
    assert process.stderr is not None
    try:
        yield DockerRegistry(_address(process.stderr), authority, login)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def _address(log: IO[bytes]) -> str:
    """The address from its log. A thread reads and drops the rest of the log."""
    lines = []
    for line in log:
        lines.append(line)
        if found := _LISTENING.search(line):
            threading.Thread(target=_drop, args=(log,), daemon=True).start()
            return found[1].decode()
    raise AssertionError("docker-registry ended: " + b"".join(lines).decode("utf-8", "replace"))


def _drop(log: IO[bytes]) -> None:
    with contextlib.suppress(ValueError):
        for _ in log:
            pass


def make_certificate(directory: Path, names: str = "DNS:localhost,IP:127.0.0.1", days: int = 2) -> Path:
    """Make server.crt and server.key in `directory`, signed by a new authority; return the path of its certificate."""
    directory.mkdir(parents=True, exist_ok=True)
    authority, key = directory / "ca.crt", directory / "ca.key"
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    _run(*new, "-x509", "-days", "2", "-subj", "/CN=Test authority", "-keyout", key, "-out", authority)
    _run(*new, "-subj", "/CN=registry", "-keyout", directory / "server.key", "-out", directory / "server.csr")
    (directory / "names").write_text(f"subjectAltName={names}\n")
    sign = [
        "openssl",
        "x509",
        "-req",
        "-in",
        directory / "server.csr",
        "-CA",
        authority,
        "-CAkey",
        key,
        "-CAcreateserial",
    ]
    _run(*sign, "-days", days, "-extfile", directory / "names", "-out", directory / "server.crt")
    return authority


def _run(*arguments: object) -> None:
    subprocess.run([str(argument) for argument in arguments], check=True, capture_output=True)
