"""The ids that the user namespace of the steps gets.

An effective uid of 0 does not tell which ids can be mapped: in a container root can have all ids, 65,536 of them, or
one. So the map depends on the capabilities of this process (CAP_SETUID, CAP_SETGID) and on the ids that exist in its
own namespace (/proc/self/uid_map). All kinds of maps give the same images, unless a RUN uses an id that the map
lacks: a chown to it fails with EINVAL.
"""

from __future__ import annotations

import os
import pwd
import re
import stat
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING

from pybuild.builder.host.obstacles import SEE_DOCTOR
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable

_CAP_SETGID, _CAP_SETUID = 6, 7
_HELPER_DIRECTORIES = ("/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin")
_HELPER_SECONDS = 10
_MAX_ID = 0xFFFFFFFF
_FIRST_SUBORDINATE, _USUAL_COUNT = 100_000, 65_536  # SUB_UID_MIN and SUB_UID_COUNT of login.defs(5)
_MOST_EXTENTS = 340  # lines that the kernel accepts in one map; user_namespaces(7)


class MapKind(Enum):
    """Where the ids of the namespace come from."""

    IDENTITY = "identity"  # all ids that exist here, each as itself
    RANGE = "range"  # the user as root, and the user's subordinate ids
    SINGLE = "single"  # the user as root, and no other ids
    SHIFTED = "shifted"  # all ids that exist here, rotated: those of the steps are not those of pybuild


@frozen
class Extent:
    """A run of ids: the first one `inside` the namespace, the first one `outside`, and the number of ids."""

    inside: int
    outside: int
    count: int


@frozen
class IdMap:
    """A map for users and one for groups. `helpers` are the paths of newuidmap and newgidmap if they have to write it.

    `missing` says why there is only a single id. `withheld` is how many users and groups at the end of the maps are for
    pybuild's workers only, and not for steps; the maps then count from 0 without gaps.
    """

    kind: MapKind
    uids: tuple[Extent, ...]
    gids: tuple[Extent, ...]
    helpers: tuple[str, str] | None = None
    missing: str = ""
    withheld: tuple[int, int] = (0, 0)

    @property
    def name(self) -> str:
        """A different name for each map. Each map has its own trees, because their owners on the disk differ."""
        if self.kind is MapKind.IDENTITY:
            return "identity"
        runs = ["+".join(f"{e.inside}.{e.outside}.{e.count}" for e in extents) for extents in (self.uids, self.gids)]
        return f"{self.kind.value}-{runs[0]}-{runs[1]}"

    def has_uid(self, uid: int) -> bool:
        """Whether a step can run as this user and own files as it."""
        return _covers(self._for_steps(0), uid)

    def has_gid(self, gid: int) -> bool:
        """The same for a group."""
        return _covers(self._for_steps(1), gid)

    def step_maps(self) -> tuple[str, str]:
        """The maps of a user namespace for one step, below the one with this map: its ids, each as itself."""
        users, groups = (
            "".join(f"{extent.inside} {extent.inside} {extent.count}\n" for extent in self._for_steps(kind))
            for kind in (0, 1)
        )
        return users, groups

    def _for_steps(self, kind: int) -> tuple[Extent, ...]:
        """The extents of the users (0) or groups (1) that steps have."""
        extents, withheld = (self.uids, self.gids)[kind], self.withheld[kind]
        return (Extent(0, 0, _count(extents) - withheld),) if withheld else extents

    @property
    def missing_hint(self) -> str:
        """The hint of an error about an id that the map lacks."""
        return f"{self.missing or 'the subordinate ids are too few'}; {SEE_DOCTOR}"

    def write(self, pid: int) -> None:
        """Set the map of a process that has just made its user namespace; user_namespaces(7). Raises OSError."""
        if self.helpers is not None:
            for helper, extents in zip(self.helpers, (self.uids, self.gids), strict=True):
                _run_helper(helper, pid, extents)
            return
        if self.kind is MapKind.SINGLE:
            # Without CAP_SETGID in our own namespace the kernel accepts a group map only after setgroups(2) is denied.
            _write(f"/proc/{pid}/setgroups", "deny")
        for kind, extents in (("uid", self.uids), ("gid", self.gids)):
            lines = [f"{extent.inside} {extent.outside} {extent.count}\n" for extent in extents]
            _write(f"/proc/{pid}/{kind}_map", "".join(lines))


def choose_id_map() -> IdMap:
    """The best map that this process can write. A map of a single id is always possible."""
    capabilities = effective_capabilities()
    may_map = bool(capabilities >> _CAP_SETUID & 1 and capabilities >> _CAP_SETGID & 1)
    uids, gids = _existing_ids("uid"), _existing_ids("gid")
    if may_map and _covers(uids, 0) and _covers(gids, 0) and _count(uids) > 1 and _count(gids) > 1:
        return IdMap(MapKind.IDENTITY, uids, gids)
    if may_map and _count(uids) == 1:
        return _single("only one id exists in this namespace")
    user = _user_name()
    if user is None:
        return _single(f"user {os.geteuid()} is not in /etc/passwd, so no subordinate ids can be found for it")
    try:
        helpers = (find_helper("newuidmap"), find_helper("newgidmap"))
    except FileNotFoundError as error:
        return _single(f"{error.filename} is not installed")
    except PermissionError as error:
        return _single(f"{error.filename}: {error.strerror}")
    extents = []
    for kind, existing, own in (("uid", uids, os.geteuid()), ("gid", gids, os.getegid())):
        ranges = _within(subordinate_ids(f"/etc/sub{kind}", user, os.geteuid()), existing)
        if not ranges:
            return _single(f"/etc/sub{kind} gives {user} no ids that exist here")
        extents.append(_extents(own, ranges))
    return IdMap(MapKind.RANGE, extents[0], extents[1], helpers)


def subordinate_ids(path: str, user: str, uid: int) -> list[tuple[int, int]]:
    """The runs (first id, count) that a file such as /etc/subuid gives a user, in the order of the file; subuid(5)."""
    found = []
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                owner, first, count = (*line.strip().split(":"), "", "")[:3]
                numbers = _id(first), _id(count)
                if owner in (user, str(uid)) and numbers[0] is not None and numbers[1]:
                    found.append((numbers[0], numbers[1]))
    except OSError:
        return []
    return found


def free_range(paths: Iterable[str] = ("/etc/subuid", "/etc/subgid")) -> tuple[int, int]:
    """The first and last of 65,536 ids that none of these files gives to a user, on the multiples that useradd takes."""
    taken = []
    for path in paths:
        with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                first, count = (_id(text) for text in (*line.strip().split(":"), "", "")[1:3])
                if first is not None and count:
                    taken.append((first, first + count))
    start = _FIRST_SUBORDINATE
    for first, end in sorted(taken):
        if first < start + _USUAL_COUNT and start < end:
            start += -(-(end - start) // _USUAL_COUNT) * _USUAL_COUNT
    return start, start + _USUAL_COUNT - 1


def find_helper(name: str) -> str:
    """The absolute path of newuidmap or newgidmap, in the directories of the system: PATH is ignored.

    Raises FileNotFoundError, or PermissionError if users other than root can write the file.
    """
    for directory in _HELPER_DIRECTORIES:
        path = f"{directory}/{name}"
        try:
            status = os.stat(path)
        except OSError:
            continue
        if not stat.S_ISREG(status.st_mode) or status.st_uid != 0 or status.st_mode & 0o022:
            raise PermissionError(13, "is not a program that only root can write", path)
        return path
    raise FileNotFoundError(2, "not found", name)


def _single(missing: str) -> IdMap:
    own = (Extent(0, os.geteuid(), 1),), (Extent(0, os.getegid(), 1),)
    return IdMap(MapKind.SINGLE, *own, missing=missing)


def _extents(own: int, ranges: list[tuple[int, int]]) -> tuple[Extent, ...]:
    """The user's own id as 0, then the subordinate runs one after the other from 1."""
    extents = [Extent(0, own, 1)]
    inside = 1
    for first, count in ranges[: _MOST_EXTENTS - 1]:
        extents.append(Extent(inside, first, count))
        inside += count
    return tuple(extents)


def _within(ranges: list[tuple[int, int]], existing: tuple[Extent, ...]) -> list[tuple[int, int]]:
    """The parts of the runs that exist in our own namespace: the kernel refuses to map other ids (EPERM)."""
    found = []
    for first, count in ranges:
        for extent in existing:
            low = max(first, extent.inside)
            high = min(first + count, extent.inside + extent.count)
            if low < high:
                found.append((low, high - low))
    return found


def _run_helper(helper: str, pid: int, extents: tuple[Extent, ...]) -> None:
    import subprocess  # needed only with helpers

    words = [str(number) for extent in extents for number in (extent.inside, extent.outside, extent.count)]
    try:
        done = subprocess.run(
            [helper, str(pid), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={"PATH": os.defpath},
            cwd="/",
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise OSError(f"{helper} did not end within {_HELPER_SECONDS} seconds") from None
    if done.returncode:
        lines = done.stderr[:500].decode("utf-8", "backslashreplace").strip().splitlines()
        raise OSError(f"{helper}: {lines[0] if lines else f'exit status {done.returncode}'}")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _covers(extents: tuple[Extent, ...], number: int) -> bool:
    return any(extent.inside <= number < extent.inside + extent.count for extent in extents)


def _id(text: str) -> int | None:
    """A number that the kernel takes for ids and their count; None for all other text."""
    return int(text) if re.fullmatch("[0-9]{1,10}", text) and int(text) <= _MAX_ID else None


def _count(extents: tuple[Extent, ...]) -> int:
    return sum(extent.count for extent in extents)


def _user_name() -> str | None:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return None


def _existing_ids(kind: str) -> tuple[Extent, ...]:
    """The ids that exist in our own namespace, each mapped to itself."""
    with open(f"/proc/self/{kind}_map", encoding="ascii") as file:
        lines = [[int(word) for word in line.split()] for line in file]
    return tuple(Extent(inside, inside, count) for inside, _, count in lines)


def effective_capabilities() -> int:
    """The effective capabilities of this process; bit n is capability number n."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0
