"""The containers of podman and Docker as data, and as a configuration of runc.

What podman's default container has was read from the config.json that podman 4.3.1 wrote for `podman run IMAGE`, what
Docker's has from its documentation: fixtures/containers has podman's seccomp profile, builder/sandbox Docker's.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.cli import CHECKOUT, FIXTURES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PODMAN_CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID",
    "SYS_CHROOT",
)  # fmt: skip
DOCKER_CAPABILITIES = (*PODMAN_CAPABILITIES, "AUDIT_WRITE", "MKNOD", "NET_RAW")
PODMAN_PROFILE = FIXTURES / "containers" / "podman_seccomp.json"
DOCKER_PROFILE = CHECKOUT / "builder" / "sandbox" / "seccomp_profile.json"
_MASKED = (
    "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/fs/selinux", "/sys/dev/block",
)  # fmt: skip
_READ_ONLY = ("/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_ARCHITECTURES = {
    "x86_64": ("amd64", ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
    "aarch64": ("arm64", ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
}
HOST_NAME = "681fc29a9bf4"
_COUNT = 65_536


@dataclass(frozen=True)
class Surroundings:
    """A container that pybuild runs in."""

    profile: Path | None = PODMAN_PROFILE  # the seccomp profile
    capabilities: tuple[str, ...] = PODMAN_CAPABILITIES
    masked: bool = True  # parts of /proc and /sys are covered or read-only
    read_only: bool = False  # the root
    first_id: int | None = None  # a user namespace whose 65,536 ids begin here
    user: int = 0
    no_new_privileges: bool = False  # allowPrivilegeEscalation: false in Kubernetes
    tmpfs: tuple[str, ...] = ()
    overlay_store: bool = False  # the store is on an overlay, as on the root of a container without a volume
    home: str | None = None  # the root is that of pybuild's own image: its directory; "" for one made of this machine
    network: bool = True  # that of the machine; else only loopback


def runc_config(
    surroundings: Surroundings,
    root: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    volumes: Sequence[str],
) -> dict[str, Any]:
    """A config.json. The network is the machine's; `volumes` are directories of the machine at the same paths."""
    capabilities = [f"CAP_{name}" for name in surroundings.capabilities]
    effective = [] if surroundings.user else capabilities
    namespaces = ["pid", "ipc", "uts", "mount", *(["user"] if surroundings.first_id is not None else [])]
    namespaces += [] if surroundings.network else ["network"]
    linux: dict[str, Any] = {"namespaces": [{"type": name} for name in namespaces]}
    if surroundings.masked:
        linux |= {"maskedPaths": list(_MASKED), "readonlyPaths": list(_READ_ONLY)}
    if surroundings.profile is not None:
        linux["seccomp"] = _seccomp(json.loads(surroundings.profile.read_text()), capabilities)
    if surroundings.first_id is not None:
        extent = [{"containerID": 0, "hostID": surroundings.first_id, "size": _COUNT}]
        linux |= {"uidMappings": extent, "gidMappings": extent}
    return {
        "ociVersion": "1.0.2",
        "hostname": HOST_NAME,
        "root": {"path": root, "readonly": surroundings.read_only},
        "process": {
            "user": {"uid": surroundings.user, "gid": surroundings.user},
            "args": list(command),
            "env": [f"{name}={value}" for name, value in environment.items()],
            "cwd": "/",
            "noNewPrivileges": surroundings.no_new_privileges,
            "capabilities": {"bounding": capabilities, "effective": effective, "permitted": effective},
        },
        "mounts": [
            *_kernel_mounts(in_user_namespace=surroundings.first_id is not None),
            # Engines mount no /tmp: here it keeps the tests of one container from those of another.
            *([] if surroundings.home is not None else [_mount("tmpfs", "/tmp", "nosuid", "nodev", "mode=1777")]),
            *(_mount("tmpfs", place, "nosuid", "nodev", "noexec", "mode=700") for place in surroundings.tmpfs),
            *(_mount("none", place, "rbind", "rw", source=place) for place in volumes),
        ],
        "linux": linux,
    }


def _kernel_mounts(*, in_user_namespace: bool) -> list[dict[str, Any]]:
    quiet = ("nosuid", "noexec", "nodev")
    if in_user_namespace:  # it owns no network namespace, so it can mount no sysfs: engines bind the machine's
        sys = [_mount("none", "/sys", "rbind", *quiet, "ro", source="/sys")]
    else:
        sys = [_mount("sysfs", "/sys", *quiet, "ro"), _mount("cgroup", "/sys/fs/cgroup", *quiet, "relatime", "ro")]
    return [
        _mount("proc", "/proc", *quiet),
        _mount("tmpfs", "/dev", "nosuid", "noexec", "strictatime", "mode=755", "size=65536k"),
        *sys,
        _mount("devpts", "/dev/pts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        _mount("mqueue", "/dev/mqueue", *quiet),
        _mount("tmpfs", "/dev/shm", *quiet, "mode=1777", "size=65536k"),
    ]


def _mount(kind: str, place: str, *options: str, source: str = "") -> dict[str, Any]:
    return {"destination": place, "type": kind, "source": source or kind, "options": list(options)}


def _seccomp(profile: dict[str, Any], capabilities: Sequence[str]) -> dict[str, Any]:
    """What an engine makes of a profile for a container with these capabilities on this machine."""
    architecture, names = _ARCHITECTURES[os.uname().machine]
    calls: list[dict[str, Any]] = []
    for rule in profile["rules"]:
        here = {"caps": set(capabilities), "arches": {architecture}}
        if any(set(rule.get(f"unless_{kind}", ())) & found for kind, found in here.items()):
            continue
        if not set(rule.get("if_caps", ())) <= here["caps"]:
            continue
        if "if_arches" in rule and architecture not in rule["if_arches"]:
            continue
        action: dict[str, Any] = {"names": rule["names"], "action": "SCMP_ACT_ALLOW"}
        if "errno" in rule:
            action |= {"action": "SCMP_ACT_ERRNO", "errnoRet": rule["errno"]}
        if "all_of" in rule:
            calls.append({**action, "args": [_condition(one) for one in rule["all_of"]]})
        elif "any_of" in rule:
            calls += [{**action, "args": [_condition(one)]} for one in rule["any_of"]]
        else:
            calls.append(action)
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": profile["default_errno"],
        "architectures": names,
        "syscalls": calls,
    }


def _condition(one: Sequence[Any]) -> dict[str, Any]:
    index, operator, *values = one
    return {"index": index, "op": f"SCMP_CMP_{operator}", "value": values[0], "valueTwo": (*values[1:], 0)[0]}
