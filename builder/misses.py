"""Why a step was not cached: the values that `pybuild why`, --explain and the error NotCached report."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.store.objects.builds import BuiltStep, MountedFiles, StoredBuild


@frozen
class Earlier:
    """A step of an earlier build, with which a missed step is compared."""

    build: StoredBuild
    step: BuiltStep


@frozen
class Miss:
    """A step that was not cached. `causes` is one line per cause, the decisive one first.

    `other_files` is set if the step copies other files than `earlier` did. `other_mounts` has a pair for each mount
    whose files differ: the files that `earlier` had mounted, and those of this step.
    """

    step: BuiltStep
    earlier: Earlier | None
    causes: tuple[str, ...]
    other_files: bool = False
    other_mounts: tuple[tuple[MountedFiles, MountedFiles], ...] = ()


class FileChange(NamedTuple):
    """A file that differs from the earlier step's, and how."""

    path: bytes
    how: str


@frozen
class ExplainedMiss:
    """A step that was not cached, and why. `files` is None if files differ and the store no longer knows which."""

    miss: Miss
    files: Sequence[FileChange] | None
