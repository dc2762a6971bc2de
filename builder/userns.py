"""Which ids the user namespace of the steps gets.

With CAP_SETUID (root, also root of a container) the map is the identity over exactly the ids that exist here: inside
of a container these may be one, or 65,536, and /proc/self/uid_map tells. Whether somebody calls himself 0 says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from builder.errors import PrivilegeError

_CAP_SETGID, _CAP_SETUID = 6, 7


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of ids: `inside` the namespace, `outside` of it, and how many."""

    inside: int
    outside: int
    count: int


@dataclass(frozen=True, slots=True)
class IdMap:
    """A map for users and one for groups. `name` tells trees made under different maps apart."""

    name: str
    uids: tuple[Extent, ...]
    gids: tuple[Extent, ...]

    def write(self, pid: int) -> None:
        """Give the map to a process that has just made its user namespace. Raises OSError. user_namespaces(7)."""
        for kind, extents in (("uid", self.uids), ("gid", self.gids)):
            text = "".join(f"{extent.inside} {extent.outside} {extent.count}\n" for extent in extents)
            with open(f"/proc/{pid}/{kind}_map", "w", encoding="ascii") as file:
                file.write(text)


def choose() -> IdMap:
    """The map for this process's namespace. Raises PrivilegeError where it may not write one."""
    capabilities = _effective_capabilities()
    if not (capabilities >> _CAP_SETUID & 1 and capabilities >> _CAP_SETGID & 1):
        raise PrivilegeError(
            "RUN needs root: this user may not map the ids of a step",
            hint="run pybuild as root, or in a container as its root",
        )
    return IdMap("identity", _identity("uid"), _identity("gid"))


def _identity(kind: str) -> tuple[Extent, ...]:
    with open(f"/proc/self/{kind}_map", encoding="ascii") as file:
        lines = [[int(word) for word in line.split()] for line in file]
    return tuple(Extent(inside, inside, count) for inside, _, count in lines)


def _effective_capabilities() -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0
