"""The ignore file of a build: which file it is, and its text."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from pybuild.builder.errors import BuildError
from pybuild.store.system.files import open_in_root, read_regular
from pybuild.values import frozen
from pybuild.values.limits import IGNORE_FILE_BYTES

IGNORE_FILE = ".dockerignore"  # in the root of a context that is a directory


@frozen
class IgnoreText:
    """An ignore file: its path, for messages, and its text, in which bytes that are not UTF-8 are surrogates."""

    path: str
    text: str


def read_ignore_file(root: str, buildfile: str | None) -> IgnoreText | None:
    """The ignore file of a build: `<recipe>.dockerignore` next to the recipe, else `.dockerignore` in the context.

    None if neither exists. Symbolic links are followed inside the context, or inside the recipe's directory if the recipe
    is not in the context: messages about patterns show lines of the file, so it must not be any file of the machine.
    Raises BuildError for a link that leads out, and if the file is not a regular file.
    """
    places = [(root, IGNORE_FILE, "context")]
    if buildfile is not None:
        beside = f"{buildfile}.dockerignore"
        inside = os.path.relpath(os.path.abspath(beside), os.path.abspath(root))
        if inside.startswith("../"):
            directory, inside = os.path.split(os.path.abspath(beside))
            places.insert(0, (directory, inside, "directory of the recipe"))
        else:
            places.insert(0, (root, inside, "context"))
    for directory, name, place in places:
        data = _read_file(directory, name, place)
        if data is not None:
            path = os.path.normpath(os.path.join(directory, name))
            return IgnoreText(path, data.decode("utf-8", "surrogateescape"))
    return None


def _read_file(directory: str, name: str, place: str) -> bytes | None:
    """The content of a regular file; None if it does not exist. Raises BuildError."""
    try:
        root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BuildError(f"cannot open {directory}: {error.strerror}") from error
    try:
        fd = open_in_root(root, os.fsencode(name), os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise BuildError(f"ignore file {name}: {error.strerror}") from error
        with suppress(OSError):  # it is not a link, or does not exist
            raise BuildError(
                f"ignore file {name}: a symbolic link to {os.readlink(name, dir_fd=root)}, which is not in the {place}",
                hint=f"links are followed inside the {place} only",
            ) from None
        return None
    finally:
        os.close(root)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BuildError(f"ignore file {name}: not a regular file")
        return read_regular(fd, IGNORE_FILE_BYTES, f"ignore file {name}")
    finally:
        os.close(fd)
