"""The error for a full disk."""

from __future__ import annotations

import errno
import os

from pybuild.store.errors import NoSpace


def no_space(error: OSError, where: str) -> OSError | NoSpace:
    """NoSpace if the disk, the quota or the inode table is full; any other error unchanged."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"{where}: {os.strerror(error.errno)}", hint="free some space, or choose another --root")
    return error
