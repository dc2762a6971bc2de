"""The root of the container that pybuild's own image makes, as images/pybuild/enter.c leaves it.

That program changes the root to /pybuild, so that the interpreter and its libraries come from there, and starts Python with two
descriptors: the root of the container, and the working directory in it. `entered` goes back there. Only a process that this
program has started passes: its root is not the one that the descriptor shows, but the directory /pybuild of that one.
"""

from __future__ import annotations

import os

VARIABLE = "PYBUILD_CONTAINER_ROOT"  # the numbers of the two descriptors
HOME = "/pybuild"  # of everything that pybuild needs; no step changes it, unless it wants to
PYTHON = f"{HOME}/usr/bin/pybuild-python"  # starts the interpreter in the same way


class _Place:
    """Where this process runs. It cannot change, and is found out once, because finding out changes the root."""

    in_container_root: bool | None = None


def entered() -> bool:
    """Whether this process runs in pybuild's own image, whose root may be changed; from then on that is its root.

    The working directory is the one that the user had.
    """
    if _Place.in_container_root is None:
        _Place.in_container_root = _enter(os.environ.pop(VARIABLE, ""))
    return _Place.in_container_root


def _enter(text: str) -> bool:
    numbers = text.split(":")
    if len(numbers) != 2 or not all(number.isascii() and number.isdigit() for number in numbers):
        return False
    root, directory = map(int, numbers)
    try:
        if not _is_home_of(root):
            return False
        os.fchdir(root)
        os.chroot(".")
        os.fchdir(directory)
    except OSError:
        return False
    for fd in (root, directory):
        os.close(fd)
    os.environ.pop("LD_LIBRARY_PATH", None)  # it has been read, and no other program needs it
    return True


def _is_home_of(root: int) -> bool:
    """Whether the root of this process is /pybuild of the root that a descriptor shows. Raises OSError."""
    own, above = os.stat("/"), os.stat(".", dir_fd=root)
    home = os.stat(HOME[1:], dir_fd=root, follow_symlinks=False)
    return os.path.samestat(own, home) and not os.path.samestat(own, above)
