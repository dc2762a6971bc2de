"""Programs and emulators of other processors, which fixtures/install_tools.sh installs."""

from __future__ import annotations

import os
from pathlib import Path

FOREIGN = Path("/usr/local/lib/pybuild-foreign")
MACHINES_HANDLERS = Path("/proc/sys/fs/binfmt_misc")


def busybox(architecture: str) -> bytes:
    """A static busybox for arm64 or arm."""
    return (FOREIGN / f"busybox-{architecture}").read_bytes()


def machines_handlers() -> list[str]:
    """The names of the handlers that the kernel has for the whole machine."""
    return sorted(os.listdir(MACHINES_HANDLERS))


def foreign_emulator(qemu: str) -> str:
    """The path of the installed emulator with QEMU's name of a processor."""
    return next(str(path) for path in sorted(Path("/usr/bin").glob(f"qemu-{qemu}*")))
