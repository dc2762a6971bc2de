"""A registry behind the slow proxy, and what its clients send and receive."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from bench.exchanges import lines, summary
from bench.slow_proxy import SlowProxy
from tests.support.registry import docker_registry

if TYPE_CHECKING:
    from bench.exchanges import Moved
    from bench.world import World


class SlowRegistry:
    """An empty registry. `host` is the slow way to it, `registry` the fast one; `data` is the directory with its files."""

    def __init__(self, world: World, name: str) -> None:
        directory = world.fresh(f"{name}-registry")
        self.data = directory / "data"
        self.registry = world.stack.enter_context(docker_registry(directory))
        self._proxy = world.stack.enter_context(SlowProxy(self.registry.host))
        self.host = self._proxy.host
        self._name, self._logs = name, world.directory.parent
        self._kept: set[Path] = set()

    def keep(self) -> None:
        """Let `restore` keep what the registry has now."""
        self._kept = set(self._files())

    def restore(self) -> None:
        """Remove what has come since `keep`."""
        for path in set(self._files()) - self._kept:
            path.unlink()
            for parent in path.parents:  # a digest whose directory is empty would be found, and be damaged
                if parent == self.data or any(parent.iterdir()):
                    break
                parent.rmdir()

    def reset(self, contender: str) -> None:
        """Begin to count what this contender does."""
        self._proxy.exchanges()
        self._log = self._logs / f"{self._name}-{contender}.log"  # for readers

    def read(self) -> Moved:
        """What was sent and received since `reset`."""
        exchanges, configs = self._proxy.exchanges(), self._configs()
        self._log.write_text("".join(f"{line}\n" for line in lines(exchanges, configs)))
        return summary(exchanges, configs)

    def _files(self) -> list[Path]:
        return [Path(top, name) for top, _, names in os.walk(self.data) for name in names]

    def _configs(self) -> set[str]:
        """The digests that manifests of the registry name as their configs."""
        found = set()
        storage = self.data / "docker/registry/v2"
        for link in storage.glob("repositories/**/_manifests/revisions/sha256/*/link"):
            digest = link.read_text().partition(":")[2]
            manifest = json.loads((storage / "blobs/sha256" / digest[:2] / digest / "data").read_bytes())
            if "config" in manifest:  # else it is an index
                found.add(manifest["config"]["digest"])
        return found
