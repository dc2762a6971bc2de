"""Linux capabilities: names, numbers, and the fourteen that a build step keeps.

Sources: include/uapi/linux/capability.h of Linux 6.18; the default set is Docker's for a container. capabilities(7)
says what each one allows. Inside a user namespace a capability is a power over that namespace only.
"""

from __future__ import annotations

import errno

from pybuild.builder.sandbox import linux

# Instead of typing.TYPE_CHECKING: importing typing would make the sandbox worker start more slowly.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

# In the kernel's order: the position is the number.
NAMES: Final = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)

DEFAULT: Final = frozenset(
    {
        "CAP_AUDIT_WRITE",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_MKNOD",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_RAW",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT",
    }
)

# The mask of DEFAULT, in the form of `CapBnd` in /proc/self/status.
DEFAULT_MASK: Final = 0x00000000A80425FB

# Capability sets are 64 bits wide.
_SET_BITS: Final = 64


def mask(names: Iterable[str]) -> int:
    """The bit mask of the named capabilities, bit n for number n. Raises ValueError for an unknown name."""
    bits = 0
    for name in names:
        if name not in NAMES:
            raise ValueError(f"unknown capability {name}")
        bits |= 1 << NAMES.index(name)
    return bits


def names(bits: int) -> frozenset[str]:
    """The names of the capabilities in a mask; bits beyond NAMES are left out."""
    return frozenset(name for number, name in enumerate(NAMES) if bits >> number & 1)


def bounding_set() -> int:
    """The mask of this thread's bounding set: the most that it and its children can have."""
    bits = 0
    for number in range(_SET_BITS):
        try:
            bits |= linux.capbset_read(number) << number
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            break
    return bits


def limit_bounding_set(keep: int) -> None:
    """Drop everything from this thread's bounding set except the mask `keep`.

    The loop ends where the kernel's capabilities end, so it also drops capabilities that are newer than NAMES.
    OSError (EPERM): the thread lacks CAP_SETPCAP in its user namespace.
    """
    for number in range(_SET_BITS):
        try:
            if linux.capbset_read(number) and not keep >> number & 1:
                linux.capbset_drop(number)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return


def limit_in_container(seccomp: bytes) -> int:
    """Give up what a step does not get, as far as this thread may: in a container it can lack the capabilities for that.

    Returns the capabilities that are left to it. `seccomp` is loaded if that is allowed; the filter of the container stays.
    """
    own = _permitted()
    if own >> NAMES.index("CAP_SYS_ADMIN") & 1:
        linux.seccomp_set_mode_filter(seccomp)
    if own >> NAMES.index("CAP_SETPCAP") & 1:
        limit_bounding_set(DEFAULT_MASK)
    return own & DEFAULT_MASK


def _permitted() -> int:
    """The permitted set of this thread; proc_pid_status(5)."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return next(int(line.split()[1], 16) for line in file if line.startswith("CapPrm:"))
