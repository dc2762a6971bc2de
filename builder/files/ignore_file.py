"""The ignore file of a build: which file it is, and its text."""

from __future__ import annotations

import errno
import os
import stat

from pybuild.builder.errors import BuildError
from pybuild.store.system.files import open_in_root, read_regular
from pybuild.values import frozen
from pybuild.values.limits import IGNORE_FILE_BYTES


@frozen
class IgnoreText:
    """An ignore file: its path, for messages, and its text, in which bytes that are not UTF-8 are surrogates."""

    path: str
    text: str


def read_ignore_file(root: str, buildfile: str | None) -> IgnoreText | None:
    """The ignore file of a build: `<recipe>.dockerignore` next to the recipe, else `.dockerignore` in the context.

    None if neither exists. Raises BuildError if it is not a regular file: a link could point to any file of the
    machine, and messages about its patterns would show the content of that file.
    """
    paths = [os.path.join(root, ".dockerignore")]
    if buildfile is not None:
        paths.insert(0, f"{buildfile}.dockerignore")
    for path in paths:
        data = _read_file(*os.path.split(os.path.abspath(path)))
        if data is not None:
            return IgnoreText(os.path.normpath(path), data.decode("utf-8", "surrogateescape"))
    return None


def _read_file(directory: str, name: str) -> bytes | None:
    """The content of a regular file; None if it does not exist. Raises BuildError."""
    try:
        root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BuildError(f"cannot open {directory}: {error.strerror}") from error
    try:
        fd = open_in_root(root, os.fsencode(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        reason = "must be a regular file inside the context" if error.errno == errno.ELOOP else error.strerror
        raise BuildError(f"ignore file {name}: {reason}") from error
    finally:
        os.close(root)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BuildError(f"ignore file {name}: must be a regular file inside the context")
        return read_regular(fd, IGNORE_FILE_BYTES, f"ignore file {name}")
    finally:
        os.close(fd)
