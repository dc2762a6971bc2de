"""Why steps were not cached, with the files that made the difference: `explain.py`, and what the store has of the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.explain import explain, file_changes
from builder.plan import CopyStep
from store.builds import Outcome
from store.difference import differences_at
from store.errors import StoreError
from store.toc import Entry, parent_of, sort_key
from store.view import View

if TYPE_CHECKING:
    from builder.explain import FileChange, Miss
    from builder.plan import Plan
    from builder.solver import Solver
    from store.builds import BuiltStep, KeptBuild
    from store.store import Store
    from store.toc import Toc


@dataclass(frozen=True, slots=True)
class Explained:
    """A step that was not cached, and why. Of `files`, None says that they differ and nobody knows any more how."""

    miss: Miss
    files: Sequence[FileChange] | None


def why(store: Store, build: KeptBuild, builds: Sequence[KeptBuild]) -> tuple[Explained, ...]:
    """The steps of a build that were not cached. `builds` are all that the store remembers, the oldest first."""
    return tuple(Explained(miss, _files(store, miss, {})) for miss in explain(builds, build))


def missing(store: Store, build: KeptBuild, plan: Plan, solver: Solver) -> tuple[Explained, ...]:
    """The same for a build that was not to run anything: what it would have copied is looked at where it lies."""
    found = []
    for miss in explain(store.builds.all(), build):
        node = plan.nodes[miss.step.node]
        rows = solver.rows(node) if miss.other_files and isinstance(node.step, CopyStep) else []
        found.append(Explained(miss, _files(store, miss, {entry.path: entry for entry in rows})))
    return tuple(found)


def _files(store: Store, miss: Miss, rows: Mapping[bytes, Entry]) -> Sequence[FileChange] | None:
    """What a COPY copied that the earlier one did not. `rows` are what it would copy, where it has not run."""
    if not miss.other_files or miss.earlier is None:
        return ()
    try:
        before = _layers(store, miss.earlier.step)
        old, new = View(before), View(_layers(store, miss.step))
        after = new.layers[0] if miss.step.outcome is Outcome.RAN else ()
    except (StoreError, OSError, IndexError):
        return None
    paths = {entry.path for entry in (*before[0], *after)} | rows.keys()
    if rows:
        # The table of an earlier layer names the directories above, too.
        above = {parent_of(path) for path in paths}
        paths = {path for path in paths if path in rows or path not in above}
        found = differences_at(sorted(paths, key=sort_key), old.lookup, rows.get)
    elif miss.step.outcome is Outcome.RAN:
        found = differences_at(sorted(paths, key=sort_key), old.lookup, new.lookup)
    else:
        return None
    return file_changes([one for one in found if one.path]) or None


def _layers(store: Store, step: BuiltStep) -> list[Toc]:
    """The tables of contents that a step's files are in, its own first."""
    changesets = store.snapshots.changesets(step.snapshot)
    return [store.changesets.toc(changeset) for changeset in changesets]
