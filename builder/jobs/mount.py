"""The jobs for the mounts of a RUN: directories for bind mounts, and cache mounts."""

from __future__ import annotations

import os
import time
from typing import ClassVar

from pybuild.builder.jobs.job import Done, Output
from pybuild.builder.jobs.step import make_directory
from pybuild.store.formats.toc import Toc
from pybuild.store.layers.tree import make_tree
from pybuild.store.objects.cache_mounts import lock_cache_mount
from pybuild.store.objects.changesets import TREE
from pybuild.store.system.directories import opened_directory
from pybuild.values import frozen

_LONGEST_WAIT, _PAUSE = 0.5, 0.02  # seconds


@frozen
class PrepareBindMount:
    """Make the directories for an overlay of the files of a bind mount; `root_toc` holds the entry of its root.

    A read-only overlay has no upper directory and needs at least two lower ones, so it gets the empty directories
    `above` and `below` in addition to those with the files.
    """

    in_namespace: ClassVar[bool] = True
    directory: str
    root_toc: str

    def run(self) -> Done:
        os.mkdir(self.directory, 0o700)
        for name in ("root", "work"):
            os.mkdir(f"{self.directory}/{name}", 0o700)
        for name in ("upper", "above", "below"):
            make_directory(f"{self.directory}/{name}", self.root_toc)
        return Done()


@frozen
class MakeCacheMount:
    """Make the directory of a cache mount. `seed` is an uncompressed layer with its first files, or None."""

    in_namespace: ClassVar[bool] = True
    directory: str
    mode: int
    uid: int
    gid: int
    seed: Output | None

    def run(self) -> Done:
        os.mkdir(self.directory, 0o700)
        os.mkdir(f"{self.directory}/{TREE}", 0o700)
        with opened_directory(f"{self.directory}/{TREE}") as fd:
            if self.seed is not None:
                with open(self.seed.blob, "rb") as tar:
                    make_tree(Toc.open(self.seed.toc), tar, fd)
            os.fchown(fd, self.uid, self.gid)
            os.fchmod(fd, self.mode)
        return Done()


@frozen
class AwaitCacheMount:
    """Wait until no build uses a cache mount, for half a second at most. The caller has to check again."""

    in_namespace: ClassVar[bool] = False
    directory: str
    id: str

    def run(self) -> Done:
        end = time.monotonic() + _LONGEST_WAIT
        while os.path.isdir(f"{self.directory}/{self.id}") and time.monotonic() < end:
            lock = lock_cache_mount(self.directory, self.id)
            if lock is not None:
                os.close(lock)
                break
            time.sleep(_PAUSE)
        return Done()
