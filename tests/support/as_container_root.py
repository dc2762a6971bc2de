"""Run a command as root of a container with 65,536 ids, as container engines do for ordinary users.

    as_container_root.py FIRST COMMAND...     users and groups 0 to 65535 are FIRST to FIRST+65535 outside
"""

from __future__ import annotations

import ctypes
import os
import sys

COUNT = 65_536
_CLONE_NEWUSER = 0x10000000


def main() -> None:
    first, *command = sys.argv[1:]
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWUSER):
            raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWUSER)")
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        os.execvp(command[0], command)
    os.close(ready[1])
    if os.read(ready[0], 1):
        for kind in ("uid", "gid"):
            with open(f"/proc/{pid}/{kind}_map", "w") as file:
                file.write(f"0 {first} {COUNT}")
        os.write(go[1], b"x")
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    main()
