"""Which of an image's ids a file on the disk can have, in the user namespace of this process.

A layer may name any user and group. Where the namespace lacks one, the file in a tree belongs to root instead: the
table of contents keeps the true owner, and with it every tar made from the changeset.
"""

from __future__ import annotations

from pybuild.values import frozen

# (first id, number of ids), as they are called inside of the namespace
Runs = tuple[tuple[int, int], ...]


@frozen
class MappedIds:
    """The ids that exist in a user namespace."""

    uids: Runs
    gids: Runs

    @staticmethod
    def of_this_process() -> MappedIds:
        """Those of the namespace that this process is in. user_namespaces(7), /proc/pid/uid_map."""
        return MappedIds(_runs("/proc/self/uid_map"), _runs("/proc/self/gid_map"))

    def on_disk(self, uid: int, gid: int) -> tuple[int, int]:
        """The owner that a file of `uid` and `gid` gets in a tree."""
        return (uid if _has(self.uids, uid) else 0, gid if _has(self.gids, gid) else 0)


def _runs(path: str) -> Runs:
    with open(path, encoding="ascii") as file:
        lines = [line.split() for line in file]
    return tuple((int(inside), int(count)) for inside, _, count in lines)


def _has(runs: Runs, number: int) -> bool:
    return any(first <= number < first + count for first, count in runs)
