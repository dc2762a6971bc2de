"""A container of a built image, as its config says: podman runs it without a network, and requests come from inside it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 120
# Debian's podman asks for more open files than some machines allow, and its crun refuses machines with both versions of cgroups.
OPTIONS = ("--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096")


class CheckFailed(Exception):
    """An image does not do what its example promises."""


@dataclass(frozen=True)
class Podman:
    """podman with a store of its own."""

    place: Path

    def __call__(self, *words: str, stdin: str = "") -> str:
        own = ("--root", str(self.place / "root"), "--runroot", str(self.place / "run"), "--tmpdir", str(self.place / "tmp"))
        quiet = ("--runtime=runc", "--cgroup-manager=cgroupfs", "--events-backend=none")
        done = subprocess.run(
            ["podman", *own, *quiet, *words], input=stdin, capture_output=True, text=True, timeout=TIMEOUT
        )
        if done.returncode != 0:
            raise CheckFailed(f"podman {' '.join(words)}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def load(self, archive: Path) -> str:
        """Take the image of an archive; its id."""
        return self("pull", "--quiet", f"oci-archive:{archive}").strip()

    def run(self, image: str, *options: str, command: tuple[str, ...] = (), stdin: str = "") -> str:
        """What the command of an image prints."""
        return self("run", "--rm", "--interactive", *OPTIONS, *options, image, *command, stdin=stdin)


@dataclass(frozen=True)
class Container:
    """A running container."""

    podman: Podman
    name: str

    def execute(self, *command: str) -> str:
        return self.podman("exec", self.name, *command)

    def get(self, path: str, port: int, *options: str) -> str:
        """The answer to a request on the container's own loopback address; curl waits until the server listens."""
        pid = self.podman("inspect", "--format={{.State.Pid}}", self.name).strip()
        patient = ("--retry=30", "--retry-connrefused", "--retry-delay=1")
        words = [word for option in patient for word in option.split("=")]
        inside = ["nsenter", f"--net=/proc/{pid}/ns/net"]
        curl = ["curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "20", *words, *options]
        done = subprocess.run([*inside, *curl, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True)
        if done.returncode != 0:
            raise CheckFailed(f"GET {path}: {done.stderr}\n{self.podman('logs', self.name)}")
        return done.stdout


@contextmanager
def podman() -> Iterator[Podman]:
    """A podman whose images and containers are gone at the end."""
    with tempfile.TemporaryDirectory(prefix="pybuild-examples-", dir="/var/tmp") as place:
        found = Podman(Path(place))
        try:
            yield found
        finally:
            found("rm", "--all", "--force", "--time=0", "--volumes")
            found("rmi", "--all", "--force")


@contextmanager
def started(podman: Podman, image: str, *options: str) -> Iterator[Container]:
    """A container of an image, until the end of the block; then its signal to stop has to end it."""
    name = podman("run", "--detach", *OPTIONS, *options, image).strip()
    container = Container(podman, name)
    try:
        yield container
        podman("stop", "--time=10", name)
        status = podman("inspect", "--format={{.State.ExitCode}}", name).strip()
        if status == "137":
            raise CheckFailed(f"the container had to be killed:\n{podman('logs', name)}")
    finally:
        podman("rm", "--force", "--time=0", "--volumes", name)


def healthcheck(archive: Path) -> list[str]:
    """The command of the image's HEALTHCHECK; podman does not take it from OCI images."""
    shown = subprocess.run(
        ["skopeo", "inspect", "--config", "--raw", f"oci-archive:{archive}"], check=True, capture_output=True
    )
    kind, *command = json.loads(shown.stdout)["config"]["Healthcheck"]["Test"]
    return command if kind == "CMD" else ["/bin/sh", "-c", *command]
