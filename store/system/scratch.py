"""Directories for temporary files outside of a store in which nothing can be written."""

from __future__ import annotations

import os
import tempfile

from pybuild.store.errors import NoSpace
from pybuild.store.system.disk_full import SCRATCH_HINT


def scratch_directory(purpose: str) -> str:
    """A new empty directory: in TMPDIR if that is set, else where the system has room. Raises NoSpace."""
    chosen = os.environ.get("TMPDIR")
    places = [chosen] if chosen else ["/tmp", "/var/tmp", f"/run/user/{os.geteuid()}", "/dev/shm"]
    problem: OSError | None = None
    for place in places:
        try:
            return tempfile.mkdtemp(prefix=f"pybuild-{purpose}-", dir=place)
        except OSError as error:
            problem = problem or error
    reason = problem.strerror if problem is not None else ""
    raise NoSpace(f"cannot make a directory for temporary files in {places[0]}: {reason}", hint=SCRATCH_HINT)
