"""Print a root filesystem as JSON, one line per path. Standard library only: it runs here and inside images.

    list_tree.py ROOT [PATH...]     without the mounts of a sandbox, and without the PATHs
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys

MOUNTED = {"/proc", "/sys", "/dev", "/etc/resolv.conf", "/etc/hosts"}
CAPABILITY = "security.capability"


def describe(path: str, status: os.stat_result) -> dict[str, object]:
    """Type, mode, owner and everything else that two readers of an image must agree on."""
    row: dict[str, object] = {
        "type": stat.S_IFMT(status.st_mode), "mode": stat.S_IMODE(status.st_mode), "uid": status.st_uid, "gid": status.st_gid,
        "mtime": None if stat.S_ISDIR(status.st_mode) else int(status.st_mtime),
    }  # fmt: skip
    if stat.S_ISLNK(status.st_mode):
        row["link"] = os.readlink(path)
    elif stat.S_ISREG(status.st_mode):
        row["size"] = status.st_size
        with open(path, "rb") as file:
            row["sha256"] = hashlib.sha256(file.read()).hexdigest()
        if CAPABILITY in os.listxattr(path, follow_symlinks=False):
            row["capability"] = os.getxattr(path, CAPABILITY, follow_symlinks=False).hex()
    elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        row["device"] = (os.major(status.st_rdev), os.minor(status.st_rdev))
    return row


def main() -> None:
    root, *left_out = sys.argv[1:]
    first_names: dict[tuple[int, int], str] = {}
    pending = ["/"]
    while pending:
        name = pending.pop()
        path = root.rstrip("/") + name
        status = os.lstat(path)
        row = {"path": name, **describe(path, status)}
        if stat.S_ISDIR(status.st_mode):
            children = [os.path.join(name, child) for child in sorted(os.listdir(path), reverse=True)]
            pending += [child for child in children if child not in MOUNTED and child not in left_out]
        elif status.st_nlink > 1:
            row["same_as"] = first_names.setdefault((status.st_dev, status.st_ino), name)
        print(json.dumps(row))


if __name__ == "__main__":
    main()
