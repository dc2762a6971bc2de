"""Overlay mounts, for the root filesystem of a step and for files of other stages that it mounts."""

from __future__ import annotations

import errno
import os

from pybuild.builder.sandbox import linux
from pybuild.builder.sandbox.root import OperationRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# With these on, overlayfs trusts extended attributes of the layers, which an image could forge.
_OPTIONS = (("index", "off"), ("metacopy", "off"))


def mount_overlay(lowers: Sequence[str], writable: tuple[str, str] | None, mountpoint: str) -> int:
    """Mount an overlay of directories, topmost first, on an empty directory; return a descriptor of its root.

    `writable` is the upper and the work directory of overlayfs. None makes the overlay read-only, and then there must
    be at least two lower directories. All paths are absolute. Afterwards the working directory is /.
    Raises OSError, OperationRefused.
    """
    # The kernel takes names of at most 255 bytes, and a store can have a longer path. So all names are relative.
    paths = (*lowers, *(writable or ()), mountpoint)
    above = os.path.commonprefix(paths)  # noqa: RUF071  # the next line cuts it to whole names
    above = above[: above.rindex("/") + 1]
    *lowers, mountpoint = (path[len(above) :] or "." for path in (*lowers, mountpoint))
    if writable is not None:
        writable = (writable[0][len(above) :] or ".", writable[1][len(above) :] or ".")
    os.chdir(above)
    try:
        context = linux.fsopen("overlay")
        try:
            fd = _new_overlay(context, lowers, writable)
        finally:
            os.close(context)
        if fd is None:
            return _mount_before_6_8(lowers, writable, mountpoint)
        place = os.open(mountpoint, os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW)
        linux.move_mount(fd, place)
        os.close(place)
        return fd
    finally:
        os.chdir("/")


def _new_overlay(context: int, lowers: Sequence[str], writable: tuple[str, str] | None) -> int | None:
    """The detached mount; None if the kernel lacks `lowerdir+`, which adds one directory (Linux 6.8)."""
    linux.fsconfig_string(context, "source", b"overlay")
    try:
        for lower in lowers:
            linux.fsconfig_string(context, "lowerdir+", os.fsencode(lower))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return None
    if writable is not None:
        linux.fsconfig_string(context, "upperdir", os.fsencode(writable[0]))
        linux.fsconfig_string(context, "workdir", os.fsencode(writable[1]))
        linux.fsconfig_flag(context, "volatile")
    linux.fsconfig_flag(context, "userxattr")
    for key, value in _OPTIONS:
        linux.fsconfig_string(context, key, value.encode())
    linux.fsconfig_create(context)
    return linux.fsmount(context, linux.MOUNT_ATTR_NODEV)


def _mount_before_6_8(lowers: Sequence[str], writable: tuple[str, str] | None, mountpoint: str) -> int:
    """mount(2), for kernels before 6.8. It silently cuts its data at 4095 bytes, so longer data is refused."""
    escape = {ord("\\"): r"\\", ord(":"): r"\:", ord(","): r"\,"}
    options = ["lowerdir=" + ":".join(lower.translate(escape) for lower in lowers)]
    if writable is not None:
        options += [f"upperdir={writable[0].translate(escape)}", f"workdir={writable[1].translate(escape)}", "volatile"]
    data = os.fsencode(",".join([*options, "userxattr", *(f"{key}={value}" for key, value in _OPTIONS)]))
    if len(data) > 4095:
        raise OperationRefused(
            f"{len(lowers)} layers are too many for this kernel's overlay mounts",
            hint="Linux 6.8 and newer allow 500",
        )
    linux.mount(b"overlay", os.fsencode(mountpoint), b"overlay", linux.MS_NODEV, data)
    return os.open(mountpoint, os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY)
