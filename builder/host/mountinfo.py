"""The mounts that this process sees. Source: proc_pid_mountinfo(5)."""

from __future__ import annotations

import os

from pybuild.values import frozen
from pybuild.values.pattern import pattern

_ESCAPE = pattern(r"\\([0-7]{3})")


@frozen
class VisibleMount:
    """One mount: the part of its filesystem that it shows, where, and the filesystem's type and options."""

    root: str
    mount_point: str
    kind: str
    options: str


def own_mounts() -> list[VisibleMount]:
    """The mounts of this process. Raises OSError."""
    # The kernel escapes blanks and newlines in names, and nothing else: other line breaks do not end a line.
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        return parse_mounts(file.read())


def filesystem_of(path: str) -> str:
    """The type of the filesystem that holds a path that exists, such as "ext4"; "" if it is not known."""
    path = os.path.realpath(path)
    try:
        mounts = own_mounts()
    except OSError:
        return ""
    above = [mount for mount in mounts if f"{path}/".startswith(mount.mount_point.rstrip("/") + "/")]
    # Of two mounts at one place the later one hides the other.
    return max(enumerate(above), key=lambda pair: (len(pair[1].mount_point), pair[0]))[1].kind if above else ""


def parse_mounts(text: str) -> list[VisibleMount]:
    """The mounts in the text of a mountinfo, without the lines that are not understood."""
    found = []
    for line in text.split("\n"):
        before, _, after = line.partition(" - ")
        fields, system = before.split(" "), after.split(" ", 2)
        if len(fields) > 5 and fields[4].startswith("/") and len(system) == 3:
            found.append(VisibleMount(_unescaped(fields[3]), _unescaped(fields[4]), system[0], system[2]))
    return found


def _unescaped(word: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), word)
