"""Overlay mounts, for the root filesystem of a step and for files of others that it has mounted."""

from __future__ import annotations

import errno
import os

from pybuild.builder.sandbox import linux
from pybuild.builder.sandbox.root import OperationRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_OPTIONS = (("index", "off"), ("metacopy", "off"))  # nothing hidden in attributes, which an image may bring


def mount_overlay(lowers: Sequence[str], writable: tuple[str, str] | None, mountpoint: str) -> int:
    """Mount directories, the topmost first, on an empty one; return a descriptor of its root.

    `writable` is the upper directory with overlayfs's own beside it; without them nothing can be written, and there have
    to be two lower ones. Raises OSError, OperationRefused.
    """
    context = linux.fsopen("overlay")
    try:
        fd = _configured(context, lowers, writable)
    finally:
        os.close(context)
    if fd is None:
        return _mount_old(lowers, writable, mountpoint)
    place = os.open(mountpoint, os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW)
    linux.move_mount(fd, place)
    os.close(place)
    return fd


def _configured(context: int, lowers: Sequence[str], writable: tuple[str, str] | None) -> int | None:
    """The mount; None where the kernel takes no list of directories one by one."""
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


def _mount_old(lowers: Sequence[str], writable: tuple[str, str] | None, mountpoint: str) -> int:
    """mount(2), for kernels before 6.8. It cuts its data at a page without a word, so a longer one is refused."""
    escape = {ord("\\"): r"\\", ord(":"): r"\:", ord(","): r"\,"}
    options = ["lowerdir=" + ":".join(lower.translate(escape) for lower in lowers)]
    if writable is not None:
        options += [f"upperdir={writable[0].translate(escape)}", f"workdir={writable[1].translate(escape)}", "volatile"]
    data = os.fsencode(",".join([*options, "userxattr", *(f"{key}={value}" for key, value in _OPTIONS)]))
    if len(data) > 4095:
        raise OperationRefused(
            f"{len(lowers)} layers are too many for this kernel's overlay mounts",
            hint="a kernel of 6.8 or newer takes 500",
        )
    linux.mount(b"overlay", os.fsencode(mountpoint), b"overlay", linux.MS_NODEV, data)
    return os.open(mountpoint, os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY)
