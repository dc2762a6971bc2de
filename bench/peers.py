"""Other builders, if they are installed."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

from bench.measure import clean_environment
from bench.row import Contender, nothing, shell
from bench.world import remove

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.world import World


def policy(world: World) -> Path:
    """A signature policy that accepts everything; a fresh machine has no policy."""
    path = world.kept / "policy.json"
    path.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
    return path


class ContainersStorage:
    """A store of buildah, podman and skopeo, on overlayfs."""

    def __init__(self, world: World, name: str) -> None:
        self._policy = policy(world)
        self.root = world.directory / name
        self.reset()
        world.stack.callback(self.reset)

    @property
    def target(self) -> str:
        """The name of this store for skopeo."""
        return f"containers-storage:[overlay@{self.root}/root+{self.root}/run]"

    def options(self) -> tuple[str, ...]:
        """The options that select this store for buildah and podman."""
        return ("--root", f"{self.root}/root", "--runroot", f"{self.root}/run", "--storage-driver", "overlay")

    def podman(self, verb: str, *arguments: object) -> tuple[str, ...]:
        """A podman command that runs no container."""
        quiet = ("--cgroup-manager", "cgroupfs", "--events-backend", "none", "--tmpdir", f"{self.root}/tmp")
        return ("podman", *self.options(), *quiet, verb, "--signature-policy", str(self._policy), *map(str, arguments))

    def buildah(self, verb: str, *arguments: object) -> tuple[str, ...]:
        """A buildah command."""
        return ("buildah", *self.options(), verb, "--signature-policy", str(self._policy), *map(str, arguments))

    def reset(self) -> None:
        """Empty the store. The tools leave mounts behind: the store on itself, and the root of a failed step."""
        with open("/proc/self/mountinfo") as file:
            mounted = [line.split()[4] for line in file]
        for path in reversed([path for path in mounted if path.startswith(f"{self.root}/")]):
            subprocess.run(["umount", path], check=True)
        remove(self.root)
        self.root.mkdir(parents=True)


def buildah_build(storage: ContainersStorage, context: Path, *arguments: object) -> tuple[str, ...]:
    """A build of a context with a Buildfile, with a layer per step. --isolation=chroot works everywhere."""
    recipe = ("-f", context / "Buildfile")
    return storage.buildah("bud", "-q", "--layers", "--isolation", "chroot", *recipe, *arguments, context)


def buildah_archive(
    storage: ContainersStorage,
    context: Path,
    archive: object,
    *arguments: object,
    before: Callable[[], object] = nothing,
) -> Contender:
    """The same build, followed by the separate buildah command that writes an archive."""
    build = buildah_build(storage, context, "--tls-verify=false", "-t", "bench.test/built", *arguments)
    push = storage.buildah("push", "-q", "bench.test/built", f"oci-archive:{archive}")
    script = f"rm -f {shlex.quote(str(archive))}; {shlex.join(build)} && {shlex.join(push)}"
    return shell("buildah", script, before)


class BuildKit:
    """A private buildkitd; use it only if `there()`."""

    def __init__(self, world: World, *registries: str) -> None:
        """`registries` are the hosts of more registries on this machine that speak plain http."""
        root = world.fresh("buildkit")
        self._address = f"unix://{root}/socket"
        config = root / "buildkitd.toml"
        config.write_text(
            "[worker.oci]\n  enabled = true\n[worker.containerd]\n  enabled = false\n"
            + "".join(f'[registry."{host}"]\n  http = true\n' for host in (world.registry.host, *registries))
        )
        self._daemon = subprocess.Popen(
            ["buildkitd", "--config", config, "--root", root / "root", "--addr", self._address],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=clean_environment(),
        )
        world.stack.callback(self._end)
        for _ in range(100):
            if subprocess.run([*self._buildctl(), "debug", "workers"], capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        raise SystemExit("buildkitd does not answer")

    @staticmethod
    def there() -> bool:
        """Whether buildctl and buildkitd are on PATH."""
        return shutil.which("buildctl") is not None and shutil.which("buildkitd") is not None

    def build(
        self, context: Path, output: str, *arguments: object, before: Callable[[], object] = nothing
    ) -> Contender:
        """A build of a context whose recipe is named Buildfile."""
        command = (
            *self._buildctl(), "build", "--progress=plain", "--frontend=dockerfile.v0", "--opt=filename=Buildfile",
            f"--local=context={context}", f"--local=dockerfile={context}", f"--output={output}", *map(str, arguments),
        )  # fmt: skip
        return Contender("buildkit", command, before, daemons=(self._daemon.pid,))

    def prune(self) -> None:
        """Remove the cache of all builds."""
        subprocess.run([*self._buildctl(), "prune", "--all"], check=True, capture_output=True)

    def _buildctl(self) -> tuple[str, ...]:
        return ("buildctl", "--addr", self._address)

    def _end(self) -> None:
        self._daemon.terminate()
        self._daemon.wait()
