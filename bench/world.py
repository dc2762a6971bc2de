"""The parts that workloads share, created on first use: directories, a base image in several forms, a registry."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bench import images, measure
from bench.disk import mount_own
from bench.row import Contender, nothing
from bench.traffic import Traffic
from tests.support.registry import DockerRegistry, docker_registry

if TYPE_CHECKING:
    from collections.abc import Callable

PYBUILD = str(Path(sys.executable).parent / "pybuild")
DEBIAN = "bench.test/debian:bookworm"


class World:
    """A context manager. Expensive parts stay in the directory for the next run."""

    BUILD = ("build", "-q", "--network=none")  # the pybuild command of most rows

    def __init__(self, directory: Path, *, peers: bool = True) -> None:
        self.peers = peers
        self.directory = directory / "disk"
        self.kept = directory / "kept"  # stays between runs of the benchmark
        self.own_disk = False
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> World:
        self.kept.mkdir(parents=True, exist_ok=True)
        self.directory.mkdir(exist_ok=True)
        self.own_disk = mount_own(self.directory)
        if not self.own_disk:
            say("using the existing filesystem; as root the benchmark makes its own")
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def fresh(self, name: str) -> Path:
        """An empty directory with this name."""
        path = self.directory / name
        remove(path)
        path.mkdir(parents=True)
        return path

    def context(self, name: str, recipe: str, **files: str) -> Path:
        """A context with this recipe and these files."""
        path = self.fresh(f"{name}-context")
        for file, content in {"Buildfile": recipe, **files}.items():
            (path / file).write_text(content)
        return path

    def pybuild(self, store: Path, *arguments: object, before: Callable[[], object] = nothing) -> Contender:
        """A pybuild command with a store."""
        command = (PYBUILD, *map(str, arguments))
        return Contender("pybuild", command, before, {"PYBUILD_ROOT": str(store)})

    def setup(self, *command: object, **environment: str) -> None:
        """Run a command that is not measured."""
        environment = {**measure.clean_environment(), **environment}
        done = subprocess.run(list(map(str, command)), env=environment, stdin=subprocess.DEVNULL, capture_output=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(map(str, command))}: {done.stderr.decode('utf-8', 'replace')}")

    def warm(self, contender: Contender) -> None:
        """Run a contender once, so that the measured runs find its cache."""
        if self.peers or not contender.is_peer:
            measure.timed(contender)

    @cached_property
    def debian_tar(self) -> Path:
        """The root of a minimal Debian, some 170 MB."""
        path = self.kept / "debian.tar"
        if not path.exists():
            say("making a minimal Debian with mmdebstrap")
            self.setup("mmdebstrap", "--quiet", "--variant=minbase", "bookworm", f"{path}.new.tar")
            os.rename(f"{path}.new.tar", path)
        return path

    @cached_property
    def debian_archive(self) -> Path:
        """The same as an OCI archive with one gzip layer, some 70 MB."""
        path = self.kept / "debian-oci.tar"
        if not path.exists():
            images.make_archive(self.debian_tar, path, DEBIAN)
        return path

    @cached_property
    def registry(self) -> DockerRegistry:
        """A registry on the loopback interface."""
        return self.stack.enter_context(docker_registry(self.fresh("registry")))

    @cached_property
    def traffic(self) -> Traffic:
        """Another way to the same registry, on which bytes and requests are counted."""
        return self.stack.enter_context(Traffic(self.registry.host))

    @cached_property
    def debian_remote(self) -> str:
        """The name of the Debian image in the registry."""
        return self.registry.push(self.debian_archive, "bench/debian:bookworm")

    def store_with_debian(self, name: str) -> Path:
        """A store with the Debian image, in its state after a first build."""
        store = self.fresh(name)
        environment = {"PYBUILD_ROOT": str(store)}
        self.setup(PYBUILD, "import", self.debian_archive, self.debian_remote, **environment)
        context = self.context(f"{name}-first", f"FROM {self.debian_remote}\nRUN :\n")
        self.setup(PYBUILD, *self.BUILD, context, **environment)
        return store


def remove(path: Path) -> None:
    """Remove a tree, a file, or nothing if the path does not exist."""
    if path.is_dir() and not path.is_symlink():
        subprocess.run(["chmod", "-R", "u+rwX", path], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def say(text: str) -> None:
    """Print a progress message."""
    print(f"bench: {text}", file=sys.stderr, flush=True)
