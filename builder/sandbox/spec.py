"""One RUN as data: the main process decides everything, the sandbox worker only executes it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from pybuild.builder.sandbox.uplink import Uplink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pybuild.builder.sandbox.mounts import MountOperation


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """One command in one root filesystem. Paths are the host's, except those marked as the image's."""

    argv: tuple[str, ...]
    env: tuple[str, ...]  # K=V; nothing else reaches the command
    cwd: str  # the image's, absolute
    uid: int
    gid: int
    groups: tuple[int, ...]
    lowers: tuple[str, ...]  # directories of an overlay, topmost first; none: `upper` itself is the root filesystem
    upper: str  # gets the command's changes
    work: str  # the work directory that overlayfs needs next to `upper`; "" without an overlay
    mountpoint: str  # an empty directory, for the root filesystem
    files: str  # an empty directory: the mount point for generated files such as resolv.conf
    resolv_conf: str  # content
    hosts: str  # content
    hostname: str  # "" keeps that of the machine
    resolv_conf_target: str  # the image's path for resolv.conf, links resolved
    hosts_target: str  # the image's path for hosts, links resolved
    new_network: bool  # a network of its own; else the machine's
    mounts: tuple[MountOperation, ...] = ()  # in the order of their targets
    secrets: tuple[tuple[str, int, int], ...] = ()  # variables: name, offset and size in the vault
    insecure: bool = False  # all capabilities of the namespace, no seccomp filter
    shm_size: int = 64 << 20  # bytes
    rlimits: tuple[tuple[int, int, int], ...] = ()  # setrlimit(2): number, soft, hard; -1 is unlimited
    cgroups: tuple[str, ...] = ()  # directories of the cgroups to enter
    own_proc: bool = True  # a new /proc; else the machine's, read-only
    own_sys: bool = True  # a new /sys with a new network; else the machine's
    uplink: Uplink | None = None  # the way out of a new network; without one it has only a loopback device
    gate_ahead: bool = False  # the next step needs a way out too, which is prepared while this one runs
    own_ids: tuple[str, str] | None = None  # uid_map and gid_map of a user namespace for this step alone
    in_place: bool = False  # no namespaces: the root of the container is the root filesystem
    terminal: bool = False  # the streams are a terminal; its master is sent over the descriptor for standard output

    def to_json(self) -> dict[str, object]:
        """The form for messages to the worker."""
        from pybuild.builder.sandbox.mounts import to_json

        return {**asdict(self), "mounts": [to_json(mount) for mount in self.mounts]}

    @staticmethod
    def from_json(data: dict[str, Any]) -> SandboxSpec:
        """Read the result of `to_json`. Both ends have the same version, so nothing is checked."""
        from pybuild.builder.sandbox.mounts import from_json

        for key in ("argv", "env", "groups", "lowers", "cgroups"):
            data[key] = tuple(data[key])
        data["uplink"] = data["uplink"] and Uplink.from_json(data["uplink"])
        data["own_ids"] = data["own_ids"] and tuple(data["own_ids"])
        data["secrets"] = tuple(tuple(item) for item in data["secrets"])
        data["rlimits"] = tuple(tuple(limit) for limit in data["rlimits"])
        data["mounts"] = tuple(from_json(mount) for mount in data["mounts"])
        return SandboxSpec(**data)
