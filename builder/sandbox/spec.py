"""What one RUN needs, as data: the main process decides all of it, the sandbox worker only carries it out."""

from __future__ import annotations

from dataclasses import asdict, dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pybuild.builder.sandbox.mounts import StepMount


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """One command in one root filesystem. Paths are of the host unless they are said to be of the image."""

    argv: tuple[str, ...]
    env: tuple[str, ...]  # K=V; nothing else reaches the command
    cwd: str  # of the image, absolute
    uid: int
    gid: int
    groups: tuple[int, ...]
    lowers: tuple[str, ...]  # directories, the topmost first; never empty
    upper: str  # what the command changes ends up here
    work: str  # overlayfs's own, beside `upper`
    mountpoint: str  # an empty directory, for the root filesystem
    files: str  # an empty directory, for the files below
    resolv_conf: str  # content
    hosts: str  # content
    hostname: str
    resolv_conf_target: str  # of the image, links resolved: where resolv.conf is bound
    hosts_target: str
    new_network: bool  # a network of its own with nothing but a loopback device; else that of the host
    mounts: tuple[StepMount, ...] = ()  # in the order of their targets
    secrets: tuple[tuple[str, int, int], ...] = ()  # variables: name, and offset and size in the vault
    insecure: bool = False  # all capabilities of the namespace, no seccomp filter
    shm_size: int = 64 << 20  # bytes
    rlimits: tuple[tuple[int, int, int], ...] = ()  # of setrlimit(2): number, soft, hard; -1 is unlimited
    cgroups: tuple[str, ...] = ()  # directories of those that the step is to be in
    terminal: bool = False  # standard input and outputs are a terminal, whose master is sent over the first of them

    def to_json(self) -> dict[str, object]:
        """The form that travels."""
        from pybuild.builder.sandbox.mounts import to_json

        return {**asdict(self), "mounts": [to_json(mount) for mount in self.mounts]}

    @staticmethod
    def from_json(data: dict[str, Any]) -> SandboxSpec:
        """The other direction; both ends are of one version, so nothing is checked."""
        from pybuild.builder.sandbox.mounts import from_json

        for key in ("argv", "env", "groups", "lowers", "cgroups"):
            data[key] = tuple(data[key])
        data["secrets"] = tuple(tuple(item) for item in data["secrets"])
        data["rlimits"] = tuple(tuple(limit) for limit in data["rlimits"])
        data["mounts"] = tuple(from_json(mount) for mount in data["mounts"])
        return SandboxSpec(**data)
