"""Finding and reading the recipe of a build, and its ignore file.

A recipe inside the context is opened below the root of the context. So the recipe of a hostile context cannot be a link
to a file of this machine, which error messages would quote.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from pybuild.builder.errors import BuildError
from pybuild.builder.files.ignore_file import IgnoreText, read_ignore_file
from pybuild.builder.remote_source import is_remote
from pybuild.parser import IgnoreFile, PatternError
from pybuild.store.system.files import open_in_root, read_regular
from pybuild.values import frozen
from pybuild.values.limits import RECIPE_BYTES
from pybuild.values.redact import redact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.builder.files.context_source import ContextSource

RECIPE_NAMES = ("Buildfile", "Dockerfile", "Containerfile")
STDIN = "-"
STDIN_NAME = "<stdin>"  # in messages


@frozen
class Recipe:
    """The text of a recipe."""

    path: str  # as messages show it
    data: bytes
    passed_over: tuple[str, ...] = ()  # other files of the context with a default name


def recipe_of_directory(context: str, recipe: str | None) -> Recipe:
    """The recipe of a build whose context is a directory. `recipe`: a path; None: the first of RECIPE_NAMES in it.

    Raises BuildError.
    """
    if recipe == STDIN:
        return recipe_of_stdin()
    root = _open_context(context)
    try:
        if recipe is None:
            found = _first_in(root, context)
            if found is None:
                raise _no_recipe(context)
            return found
        inside = os.path.relpath(os.path.abspath(recipe), os.path.abspath(context))
        if inside == ".." or inside.startswith("../"):
            data = _read_outside(recipe)
        else:
            data = _read_in(root, inside, recipe)
    finally:
        os.close(root)
    if data is None:
        raise _not_found(recipe, "no such file", None)
    return Recipe(recipe, data)


def recipe_of_files(source: ContextSource, label: str, recipe: str | None) -> Recipe:
    """The recipe of a build whose context is an archive or repository, which messages call `label`.

    `recipe`: a path in the context; None: the first of RECIPE_NAMES in it. Raises BuildError.
    """
    if recipe == STDIN:
        return recipe_of_stdin()
    for name in RECIPE_NAMES if recipe is None else (recipe,):
        data = source.read(name, RECIPE_BYTES)
        if data is not None:
            return Recipe(name, data)
        if (target := source.link_target(name)) is not None:
            raise _broken_link(name, target)
    if recipe is None:
        raise _no_recipe(label)
    raise _not_found(recipe, f"no such file in {label}", "with such a context, -f is a path in it")


def recipe_of_stdin() -> Recipe:
    """The recipe from standard input. Raises BuildError."""
    data = sys.stdin.buffer.read(RECIPE_BYTES.value + 1)
    if len(data) > RECIPE_BYTES.value:
        raise RECIPE_BYTES.exceeded(BuildError, "the recipe on standard input exceeds the limit of {}")
    return Recipe(STDIN_NAME, data)


def recipe_in_file(path: str, label: str) -> bytes:
    """The text of a file that is the recipe. Raises BuildError."""
    return _read_and_close(os.open(path, os.O_RDONLY | os.O_CLOEXEC), label)


def ignore_text(context: str, recipe: str | None) -> str | None:
    """The text of a context's ignore file; None without one. `<recipe>.dockerignore` wins. Raises BuildError."""
    found = read_ignore_file(context, recipe)
    if found is None:
        return None
    parse_ignore_file(found)
    return found.text


def parse_ignore_file(found: IgnoreText) -> IgnoreFile:
    """The lines of an ignore file. Raises BuildError."""
    try:
        return IgnoreFile.parse(found.text)
    except PatternError as error:
        raise BuildError(str(error)) from None


def recipe_path(context: str, recipe: str | None) -> str | None:
    """The path of the recipe that a build of a directory would read; None if there is none.

    Raises BuildError if `recipe` names a file that cannot be read.
    """
    if recipe is not None:
        return None if recipe == STDIN else recipe_of_directory(context, recipe).path
    root = _open_context(context)
    try:
        found = _first_in(root, context)
    finally:
        os.close(root)
    return None if found is None else found.path


def _no_recipe(context: str) -> BuildError:
    return BuildError(
        f"no {', '.join(RECIPE_NAMES[:-1])} or {RECIPE_NAMES[-1]} in {context}", hint="name the recipe with -f"
    )


def _open_context(context: str) -> int:
    try:
        return os.open(context, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BuildError(
            f"cannot open the context {context}: {error.strerror}", hint="it must be a directory"
        ) from error


def _first_in(root: int, context: str) -> Recipe | None:
    for name in RECIPE_NAMES:
        data = _read_in(root, name, name)
        if data is not None:
            path = os.path.join(context, name) if context != "." else name
            return Recipe(path, data, tuple(_different_files(root, name)))
    return None


def _different_files(root: int, name: str) -> Iterator[str]:
    """The other names of RECIPE_NAMES that exist in a directory and are another file than `name`."""
    used = os.stat(name, dir_fd=root)
    for other in RECIPE_NAMES:
        with suppress(OSError):  # most often the file does not exist
            if not os.path.samestat(os.stat(other, dir_fd=root), used):
                yield other


def _not_found(recipe: str, why: str, hint: str | None) -> BuildError:
    """The error for a missing recipe. A URL is not fetched: its owner could make this machine build anything."""
    if is_remote(recipe):
        hint = "the recipe must be a file; to build from a URL, pipe it in: curl URL | pybuild -f - ."
    return BuildError(f"cannot open {redact(recipe)}: {why}", hint=hint)


def _read_in(root: int, path: str, label: str) -> bytes | None:
    try:
        fd = open_in_root(root, os.fsencode(path), os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            with suppress(OSError):  # it is not a link, or does not exist
                raise _broken_link(label, os.readlink(path, dir_fd=root)) from None
            return None
        raise BuildError(f"cannot open {label}: {error.strerror}") from error
    return _read_and_close(fd, label)


def _broken_link(label: str, target: str) -> BuildError:
    return BuildError(
        f"{label} is a symbolic link to {target}, which is not in the context",
        hint="links are followed inside the context only; -f PATH can name a recipe outside of it",
    )


def _read_outside(path: str) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BuildError(f"cannot open {path}: {error.strerror}") from error
    return _read_and_close(fd, path)


def _read_and_close(fd: int, label: str) -> bytes:
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BuildError(f"{label} is not a regular file")
        return read_regular(fd, RECIPE_BYTES, label)
    finally:
        os.close(fd)
