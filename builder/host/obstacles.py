"""Why this machine refuses a user namespace, and how to allow it. Only files in /proc are read."""

from __future__ import annotations

import errno
import os

from pybuild.builder.host.mountinfo import own_mounts
from pybuild.values import frozen

SEE_DOCTOR = "see pybuild doctor"


@frozen
class Obstacle:
    """A reason why something does not work, and the command or setting that fixes it."""

    problem: str
    fix: str


def sysctl(name: str) -> str | None:
    """The value of a kernel parameter, such as "kernel.arch"; None if the kernel does not have it."""
    try:
        with open("/proc/sys/" + name.replace(".", "/"), encoding="ascii", errors="replace") as file:
            return file.read(4096).strip()
    except OSError:
        return None


def has_seccomp_filter() -> bool:
    """Whether this process runs under a seccomp filter; proc(5), Seccomp."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return any(line.split()[1:] == ["2"] for line in file if line.startswith("Seccomp:"))


def user_namespace_obstacle(number: int | None = None) -> Obstacle:
    """Why the kernel refused a user namespace with this errno. None: unknown, only settings are checked."""
    if sysctl("user.max_user_namespaces") == "0":
        return Obstacle("user.max_user_namespaces is 0", "sysctl -w user.max_user_namespaces=15000")
    if sysctl("kernel.unprivileged_userns_clone") == "0" and os.geteuid() != 0:
        return Obstacle("kernel.unprivileged_userns_clone is 0", "sysctl -w kernel.unprivileged_userns_clone=1")
    if sysctl("kernel.apparmor_restrict_unprivileged_userns") == "1" and os.geteuid() != 0:
        return Obstacle(
            "AppArmor restricts user namespaces of ordinary users",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile that allows userns",
        )
    if has_seccomp_filter() and number in (None, errno.EPERM, errno.ENOSYS):
        return Obstacle(
            "a seccomp filter of this process denies namespaces, as the default filters of Docker and Kubernetes do",
            "docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined, or a pod with "
            "seccompProfile: Unconfined and procMount: Unmasked; without systempaths=unconfined or procMount, build with "
            "--isolation=container; in pybuild's own image, as root, RUN needs none of these (docs/user/kubernetes.md)",
        )
    if number in (errno.ENOSPC, errno.EUSERS):
        return Obstacle(
            "namespaces are nested too deep, or too many of them exist",
            "build outside the innermost container or namespace",
        )
    if _chrooted():
        return Obstacle("a process in a chroot cannot make user namespaces", "build outside the chroot")
    return Obstacle(
        "the kernel refuses user namespaces", "use a kernel with CONFIG_USER_NS, and a container that allows them"
    )


def _chrooted() -> bool:
    """Whether our root directory is not that of a mount: the kernel then refuses CLONE_NEWUSER; user_namespaces(7)."""
    try:
        return not any(mount.mount_point == "/" for mount in own_mounts())
    except OSError:
        return False
