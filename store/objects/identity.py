"""Whether a directory of the store is the one that pybuild made, or a copy of it.

tar, cp and rsync make new directories, and depending on their options they lose owners, hard links, opaque marks or
times. A copy gives a wrong filesystem without any error. The inode number and the time of the last change of the inode
(ctime) tell it from the original: no program can choose them. Renaming the store on one filesystem changes neither.
A reboot can change the number of the device, so it does not count.
"""

from __future__ import annotations

import os


def identity_of(directory: str) -> str:
    """The identity of a directory; "" if it does not exist."""
    try:
        status = os.lstat(directory)
    except FileNotFoundError:
        return ""
    return f"{status.st_ino}.{status.st_ctime_ns}"
