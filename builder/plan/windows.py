"""Paths in recipes for Windows, as BuildKit reads them: backslashes, the drive C:, and where a layer has its files.

A stage for Windows can copy and set its config, but not RUN. In its layers the files are below `Files`; that of the registry
are below `Hives`, which pybuild leaves empty. Sources: BuildKit's util/system (paths) and util/winlayers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builder.errors import PlanError
from pybuild.store.formats.windows_layer import FILES

if TYPE_CHECKING:
    from pybuild.parser import Span

SHELL = ("cmd", "/S", "/C")


def slashed(path: str, span: Span | None = None) -> str:
    """A path with slashes and without the drive. Raises PlanError if it is not on the drive C:, or names no path."""
    path = path.replace("\\", "/")
    if path.startswith("//"):
        raise PlanError(
            f"{path}: the path of another machine or device", span=span, hint="write a path of the drive C:"
        )
    drive, colon, rest = path.partition(":")
    if not colon:
        return path
    if drive.lower() != "c":
        raise PlanError(f"{path}: not on the drive C:", span=span, hint="an image has no other drive")
    if not rest:
        raise PlanError(f"{path}: the drive without a path", span=span, hint="write C:\\ for its root")
    return rest


def in_layer(path: str) -> str:
    """Where a layer has a path of the root filesystem."""
    return f"/{FILES}/{path.lstrip('/')}"


def is_windows_path(path: str) -> bool:
    """Whether a path begins at the root, with or without a drive."""
    rest = path.partition(":")[2] if path[1:2] == ":" else path
    return rest[:1] in ("/", "\\")
