"""Cgroups that contain the builds of a test, so that those of other builds are not mistaken for theirs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pybuild.builder.host.cgroupfs import UNIFIED, own_cgroups, remove_tree

if TYPE_CHECKING:
    from tests.support.cli import Pybuild


class Parents:
    """A cgroup in each relevant hierarchy, which contains the builds of a test."""

    def __init__(self, uid: int) -> None:
        found = own_cgroups()
        self.paths = []
        for directory in {(found.get(name) or found[UNIFIED]).directory for name in ("memory", "cpu", "pids")}:
            path = Path(directory, f"test-of-pybuild-{os.getpid()}")
            path.mkdir()
            self.paths.append(path)
            for name in (path, path / "cgroup.procs"):
                os.chown(name, uid, -1)

    def entered(self, pybuild: Pybuild) -> Pybuild:
        """The same command inside these cgroups."""
        enter = "".join(f"echo 0 > {path}/cgroup.procs; " for path in self.paths)
        return replace(pybuild, command=("sh", "-c", f'{enter}exec "$@"', "sh", *pybuild.command))

    def ours(self) -> set[str]:
        """The cgroups that pybuild created."""
        return {str(below) for path in self.paths for below in path.iterdir() if below.is_dir()}

    def close(self) -> None:
        for path in self.paths:
            remove_tree(str(path))
