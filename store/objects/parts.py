"""The parts of a store: the one list of its directories and tables.

`store` creates the directories, `sealing` seals the rows, and gc and fsck find the files without a row by this list.
tests/store/objects/test_parts.py compares it with a new store. It also fails if gc, fsck or usage does not handle a
part.
"""

from __future__ import annotations

from enum import Enum

from pybuild.store.objects.condemned import Condemnable
from pybuild.values import frozen

LOCK = "lock"
DATABASE = "metadata.db"
CACHEDIR_SIGNATURE = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n# This directory is pybuild's store and can be made again.\n"
)
CACHEDIR_TAG = "CACHEDIR.TAG"  # https://bford.info/cachedir/: makes backup programs skip the directory


class Removal(Enum):
    """When the rows and files of a part go away."""

    UNREACHED = "gc condemns what nothing reaches, and removes it later"
    WITH_OWNER = "together with the row that it belongs to"
    LEAST_USED = "gc with a size limit removes what has not been used for the longest time"
    ALL = "gc with a size limit of 0 removes all of it"
    OLDEST = "beyond a number, a size or an age the oldest go"
    RELEASED = "gc and rmi remove it while the disk is full; opening the store makes it again"
    UNLOCKED = "the next process that opens the store removes what no process has locked"


@frozen
class Part:
    """A part of a store: a table, a directory, or both.

    If it has both, each file in the directory is named by the key of a row, and a file without a row is garbage. A key
    that is a digest stands for the file <algorithm>/<hex>.
    """

    removal: Removal
    table: str = ""
    key: str = "id"  # the column that names a row of `table`
    more_tables: tuple[str, ...] = ()  # they describe the objects of `table`
    directory: str = ""  # below the store's directory
    algorithms: tuple[str, ...] = ()  # of the digests that name the files
    sealed: bool = False  # the column `boot` says whether a row is sealed (sealing.py)
    condemned_as: Condemnable | None = None  # the kind in the table `condemned`

    def path(self, root: str) -> str:
        """The directory of this part in the store at `root`."""
        return f"{root}/{self.directory}"

    def file_directories(self) -> list[tuple[str, str]]:
        """The directories whose files are named by keys, each with the prefix that makes a file's name a key."""
        if not (self.table and self.directory):
            return []
        return [(f"{self.directory}/{name}", f"{name}:") for name in self.algorithms] or [(self.directory, "")]


IMAGES = Part(
    Removal.UNREACHED, "images", key="manifest", more_tables=("tag_log", "indexes"), condemned_as=Condemnable.IMAGE
)  # the rows of tag_log stay: they are the history of the names
SNAPSHOTS = Part(Removal.UNREACHED, "snapshots", more_tables=("chains",), condemned_as=Condemnable.SNAPSHOT)
CHANGESETS = Part(
    Removal.UNREACHED, "changesets", more_tables=("tars", "claims"), sealed=True, condemned_as=Condemnable.CHANGESET
)
BLOBS = Part(
    Removal.UNREACHED, "blobs", key="digest", more_tables=("layer_blobs",),
    directory="blobs", algorithms=("sha256", "sha512"), sealed=True, condemned_as=Condemnable.BLOB,
)  # fmt: skip
TOCS = Part(Removal.WITH_OWNER, "tocs", directory="tocs", sealed=True)
TREES = Part(Removal.WITH_OWNER, "trees", more_tables=("tree_sizes",), directory="trees", sealed=True)
CACHE_MOUNTS = Part(Removal.LEAST_USED, "cachemounts", directory="cachemounts", sealed=True)
RECORDS = Part(Removal.LEAST_USED, "records", more_tables=("record_keys",))
PLACES = Part(Removal.WITH_OWNER, "places", key="digest")
DOWNLOADS = Part(Removal.WITH_OWNER, "downloads", key="url")
PARSES = Part(Removal.ALL, "parses", key="key")
BUILDS = Part(Removal.OLDEST, "builds", more_tables=("build_steps", "step_inputs"))
CONDEMNED = Part(Removal.WITH_OWNER, "condemned", key="key", more_tables=("waits",))
RESERVE = Part(Removal.RELEASED, directory="reserve")
INGEST = Part(Removal.UNLOCKED, directory="ingest")
LOGS = Part(Removal.OLDEST, directory="logs")
MEMOS = Part(Removal.OLDEST, directory="memo")

PARTS = (
    IMAGES, SNAPSHOTS, CHANGESETS, BLOBS, TOCS, TREES, CACHE_MOUNTS, RECORDS, PLACES, DOWNLOADS, PARSES, BUILDS, CONDEMNED,
    RESERVE, INGEST, LOGS, MEMOS,
)  # fmt: skip
SEALED = tuple(part for part in PARTS if part.sealed)
