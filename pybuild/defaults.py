"""What holds where neither the caller nor an option says anything: the command and the API agree here."""

from __future__ import annotations

import os


def default_root() -> str:
    """The directory of the store: PYBUILD_ROOT, else one of the system for root, one of the home for others."""
    if root := os.environ.get("PYBUILD_ROOT"):
        return root
    if os.geteuid() == 0:
        return "/var/lib/pybuild"
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(data, "pybuild")


def default_keep_storage() -> int | None:
    """The bytes that PYBUILD_KEEP_STORAGE lets a store have. Raises ValueError."""
    text = os.environ.get("PYBUILD_KEEP_STORAGE")
    if not text:
        return None
    from pybuild.parser import parse_size

    return parse_size(text)
