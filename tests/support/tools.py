"""Other image tools, each working in directories of the test."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_TIMEOUT = 120


def run(*command: object, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """Run a tool that must succeed; return its output."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def skopeo_copy(source: str, target: str) -> None:
    """Copy an image; skopeo checks every digest."""
    run("skopeo", "--insecure-policy", "copy", "--quiet", source, target)


def skopeo_config(image: str) -> dict[str, object]:
    """The config of an image as skopeo reads it."""
    found: dict[str, object] = json.loads(run("skopeo", "inspect", "--config", image))
    return found


@dataclass(frozen=True)
class Podman:
    """podman with its store below a directory. It never runs a container here."""

    directory: Path

    def __call__(self, *arguments: object) -> str:
        """Run a command of podman and return its output."""
        for name in ("tmp", "home"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        store = ("--root", self.directory / "root", "--runroot", self.directory / "run", "--storage-driver", "vfs")
        quiet = ("--cgroup-manager", "cgroupfs", "--events-backend", "none", "--tmpdir", self.directory / "tmp")
        places = {"TMPDIR": str(self.directory / "tmp"), "HOME": str(self.directory / "home")}
        return run("podman", *store, *quiet, *arguments, environment=places)

    def load(self, archive: Path) -> str:
        """Load an archive and return the name that podman gave the image."""
        return self("load", "--quiet", "--input", archive).strip().rpartition("Loaded image: ")[2]

    def flat(self, name: str, target: Path) -> Path:
        """The root filesystem of an image as a tar."""
        container = self("create", "--quiet", "--network", "none", name, "true").strip()
        self("export", "--output", target, container)
        self("rm", container)
        return target
