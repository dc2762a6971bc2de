"""The files of a small root filesystem, taken from this machine: a shell that runs in it."""

from __future__ import annotations

import os
import shutil
import subprocess

_BUSYBOX = ("/bin/busybox", "/usr/bin/busybox", "/bin/busybox-static", "/bin/busybox.static")
_SECONDS = 10.0


def shell_files() -> dict[str, str] | None:
    """Path in the root -> file of this machine, for /bin/sh with its libraries; None if their list cannot be had.

    A static busybox needs no libraries. Else ldd(1) lists those of the shell; musl and glibc have it.
    """
    for path in (*_BUSYBOX, "/bin/sh"):
        if os.access(path, os.X_OK) and (found := _libraries(path)) is not None:
            if found and path in _BUSYBOX:
                continue  # it is not static
            return {"bin/sh": os.path.realpath(path), **{name.lstrip("/"): os.path.realpath(name) for name in found}}
    return None


def _libraries(program: str) -> list[str] | None:
    """The libraries that the dynamic linker loads for a program, none for a static one; None if it cannot be told."""
    ldd = shutil.which("ldd")
    if ldd is None:
        return None
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [ldd, program], capture_output=True, text=True, timeout=_SECONDS, env=environment, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        said = done.stdout + done.stderr
        return [] if "not a dynamic executable" in said or "Not a valid dynamic program" in said else None
    found = []
    for line in done.stdout.splitlines():
        words = line.split()
        path = words[2] if "=>" in words and len(words) > 2 else words[0] if words else ""
        if path.startswith("/"):
            found.append(path)
    return found
