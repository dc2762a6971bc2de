"""The defaults that the command and the API share."""

from __future__ import annotations

import os


def default_root() -> str:
    """The directory of the store: PYBUILD_ROOT, else /var/lib/pybuild for root, else below the user's home."""
    if root := os.environ.get("PYBUILD_ROOT"):
        return root
    if os.geteuid() == 0:
        return "/var/lib/pybuild"
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(data, "pybuild")


def default_keep_storage() -> int | None:
    """The limit of the store in bytes, from PYBUILD_KEEP_STORAGE, or None. Raises ValueError."""
    text = os.environ.get("PYBUILD_KEEP_STORAGE")
    if not text:
        return None
    from pybuild.parser import parse_size

    return parse_size(text)
