"""Run a command as another user, even if interpreter and checkout are in a directory that only root can enter.

    python as_user.py USER COMMAND...

In a new mount namespace, an empty directory with only the needed paths covers each such directory.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path

_CLONE_NEWNS = 0x20000


def closed_above(path: Path) -> Path | None:
    """The topmost directory above `path` that others cannot enter."""
    for parent in reversed(path.parents):
        if not parent.stat().st_mode & 0o001:
            return parent
    return None


def open_up(paths: list[Path]) -> None:
    """Make each path reachable for all users in this mount namespace."""
    covered: dict[Path, list[Path]] = {}
    for path in paths:
        closed = closed_above(path)
        if closed is not None:
            covered.setdefault(closed, []).append(path)
    for closed, inside in covered.items():
        with tempfile.TemporaryDirectory() as holder:
            saved = [Path(holder, str(number)) for number in range(len(inside))]
            for path, place in zip(inside, saved, strict=True):
                place.mkdir()
                subprocess.run(["mount", "--rbind", path, place], check=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", closed], check=True)
            for path, place in zip(inside, saved, strict=True):
                path.mkdir(parents=True, exist_ok=True)
                subprocess.run(["mount", "--move", place, path], check=True)


def main() -> None:
    name, *command = sys.argv[1:]
    checkout = Path(__file__).resolve().parent.parent.parent
    places = dict.fromkeys([checkout, Path(sys.base_prefix).resolve(), Path(sys.prefix)])
    # A path inside another one is reachable through that.
    needed = [path for path in places if not any(other in path.parents for other in places)]
    # Done here, not by the caller: otherwise the directories would be covered for the whole machine.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNS)")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    open_up(needed)
    user = pwd.getpwnam(name)
    os.initgroups(name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.chdir("/")
    os.environ.update(HOME=user.pw_dir, USER=name, LOGNAME=name)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
