"""Real overlays for tests of the store. They are mounted in a private mount namespace and vanish with its process."""

from __future__ import annotations

import ast
import ctypes
import os
import traceback
from typing import TYPE_CHECKING

from tests.support.tars import listing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_CLONE_NEWNS = 0x20000
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18


def _call(function: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


def in_private_mounts(work: Callable[[], object]) -> object:
    """Run `work` in a child with private mounts; return its result, which must survive repr. Raises if it fails."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            _call("unshare", _CLONE_NEWNS)
            _call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
            answer = repr(work())
            status = 0
        except BaseException:
            answer = traceback.format_exc()
        os.close(read)
        with os.fdopen(write, "w", encoding="utf-8", errors="surrogateescape") as out:
            out.write(answer)
        os._exit(status)
    os.close(write)
    with os.fdopen(read, encoding="utf-8", errors="surrogateescape") as source:
        answer = source.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, answer
    return ast.literal_eval(answer)


def mount_tmpfs(place: str, options: str) -> None:
    """Mount a tmpfs; only for use in `in_private_mounts`."""
    _call("mount", b"tmpfs", os.fsencode(place), b"tmpfs", 0, options.encode())


def overlaid(
    lowers: Sequence[str], upper: str | None, place: str, action: Callable[[str], object] | None = None
) -> dict[str, tuple[object, ...]]:
    """Mount an overlay of `lowers` (topmost first) and `upper`, run `action` in it, and return its listing."""
    merged, work = f"{place}/merged", f"{place}/work"
    os.makedirs(merged, exist_ok=True)
    os.makedirs(work, exist_ok=True)
    empty = f"{place}/empty"  # an overlay without an upper directory needs two lower ones
    os.makedirs(empty, exist_ok=True)
    options = f"lowerdir={':'.join([*lowers, empty])},userxattr,index=off,metacopy=off"
    if upper is not None:
        options += f",upperdir={upper},workdir={work}"

    def work_inside() -> object:
        _call("mount", b"overlay", merged.encode(), b"overlay", 0, options.encode())
        if action is not None:
            action(merged)
        return listing(merged)

    found = in_private_mounts(work_inside)
    assert isinstance(found, dict)
    return found
