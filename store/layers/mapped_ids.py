"""Which user and group ids a file on disk can have in the user namespace of this process.

A layer can name any user and group. If an id does not exist in the namespace, the file in the tree belongs to root
instead. The table of contents has the true owner, and so does every tar that is made from the changeset.
"""

from __future__ import annotations

from pybuild.values import frozen

# (first id inside the namespace, number of ids)
IdRanges = tuple[tuple[int, int], ...]


@frozen
class MappedIds:
    """The ids that exist in a user namespace."""

    uids: IdRanges
    gids: IdRanges

    @staticmethod
    def of_this_process() -> MappedIds:
        """The ids of this process's namespace. user_namespaces(7), /proc/pid/uid_map."""
        return MappedIds(_read_ranges("/proc/self/uid_map"), _read_ranges("/proc/self/gid_map"))

    def on_disk(self, uid: int, gid: int) -> tuple[int, int]:
        """The owner in a tree of a file that belongs to `uid` and `gid` in its layer."""
        return (uid if _contains(self.uids, uid) else 0, gid if _contains(self.gids, gid) else 0)


def _read_ranges(path: str) -> IdRanges:
    with open(path, encoding="ascii") as file:
        lines = [line.split() for line in file]
    return tuple((int(inside), int(count)) for inside, _, count in lines)


def _contains(ranges: IdRanges, number: int) -> bool:
    return any(first <= number < first + count for first, count in ranges)
