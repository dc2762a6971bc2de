"""Why a step was not cached, as values: what `pybuild why`, --explain and the error NotCached tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.store.objects.builds import BuiltStep, MountedFiles, StoredBuild


@frozen
class Earlier:
    """The step of an earlier build that another one is compared with."""

    build: StoredBuild
    step: BuiltStep


@frozen
class Miss:
    """A step that was not cached. `causes` are told in one line each, the decisive one first.

    Where `other_files` is set, what it copies differs from what `earlier` copied; `other_mounts` are the files that
    `earlier` had mounted, and those that this step has in their place, where they differ.
    """

    step: BuiltStep
    earlier: Earlier | None
    causes: tuple[str, ...]
    other_files: bool = False
    other_mounts: tuple[tuple[MountedFiles, MountedFiles], ...] = ()


class FileChange(NamedTuple):
    """A file that is not what it was, and how."""

    path: bytes
    how: str


@frozen
class ExplainedMiss:
    """A step that was not cached, and why. Of `files`, None says that they differ and nobody knows any more how."""

    miss: Miss
    files: Sequence[FileChange] | None
