"""Explaining cache misses: the causes, from explain_miss.py, and the files that differ, from the store."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pybuild.builder.misses import ExplainedMiss
from pybuild.builder.plan.graph import CopyStep
from pybuild.builder.solve.explain_miss import explain, file_changes
from pybuild.store.errors import StoreError
from pybuild.store.formats.toc import Entry, Kind, Toc, parent_of, sort_key
from pybuild.store.layers.difference import differences_at
from pybuild.store.layers.view import LinkLoop, View
from pybuild.store.objects.builds import Outcome

if TYPE_CHECKING:
    from pybuild.builder.misses import Earlier, FileChange, Miss
    from pybuild.builder.plan.graph import Plan
    from pybuild.builder.solve.cache import BuildCache
    from pybuild.store.layers.difference import Difference
    from pybuild.store.objects.builds import BuiltStep, MountedFiles, StoredBuild
    from pybuild.store.store import Store


def why(store: Store, build: StoredBuild, builds: Sequence[StoredBuild]) -> tuple[ExplainedMiss, ...]:
    """The missed steps of a finished build. `builds`: all builds that the store remembers, the oldest first."""
    return tuple(ExplainedMiss(miss, _files(store, build, miss, {})) for miss in explain(builds, build))


def missing(store: Store, build: StoredBuild, plan: Plan, cache: BuildCache) -> tuple[ExplainedMiss, ...]:
    """The missed steps of a build that must not run anything. It reads the files to copy in their sources."""
    found = []
    for miss in explain(store.builds.all(), build):
        reading = [now.node for _, now in miss.other_mounts if now.node is not None]
        nodes = [plan.nodes[node] for node in (*reading, *([miss.step.node] if miss.other_files else []))]
        entries = {
            n.id: cache.entries_to_copy(n) for n in nodes if isinstance(n.step, CopyStep) and n.id not in cache.results
        }
        found.append(ExplainedMiss(miss, _files(store, build, miss, entries)))
    return tuple(found)


def _files(
    store: Store, build: StoredBuild, miss: Miss, entries: Mapping[int, Sequence[Entry]]
) -> Sequence[FileChange] | None:
    """The files that differ between the step and the earlier one, copied or mounted. None: the store cannot tell.

    `entries` maps each node that has not run to the entries that it would copy.
    """
    try:
        if miss.earlier is not None and miss.other_files:
            return _copy_changes(store, miss, miss.earlier, entries.get(miss.step.node, ()))
        if miss.earlier is not None:
            found = [_mount_differences(store, build, miss.earlier, *pair, entries) for pair in miss.other_mounts]
            return file_changes([difference for differences in found for difference in differences])
    except (StoreError, OSError, IndexError, LinkLoop):
        return None
    return ()


def _copy_changes(store: Store, miss: Miss, earlier: Earlier, entries: Sequence[Entry]) -> Sequence[FileChange] | None:
    before = _layers(store, earlier.step)
    old, new = View(before), View(_layers(store, miss.step))
    after = new.layers[0] if miss.step.outcome is Outcome.RAN else ()
    here = {entry.path: entry for entry in entries}
    paths = {entry.path for entry in (*before[0], *after)} | here.keys()
    if here:
        # The table of contents of an earlier layer also has entries for parent directories, which were not copied.
        above = {parent_of(path) for path in paths}
        paths = {path for path in paths if path in here or path not in above}
        found = differences_at(sorted(paths, key=sort_key), old.lookup, here.get)
    elif miss.step.outcome is Outcome.RAN:
        found = differences_at(sorted(paths, key=sort_key), old.lookup, new.lookup)
    else:
        return None
    return file_changes([difference for difference in found if difference.path]) or None


def _mount_differences(
    store: Store, build: StoredBuild, earlier: Earlier, was: MountedFiles, now: MountedFiles,
    entries: Mapping[int, Sequence[Entry]],
) -> list[Difference]:  # fmt: skip
    """The differences between the files that two steps mounted at the same target, by their names there."""
    node = next((step for step in build.steps if step.node == now.node), None)
    if now.node is not None and now.node in entries:
        after = View([Toc.of(entries[now.node])])
    elif node is not None and node.snapshot is not None:
        after = View(_layers(store, node))
    else:
        return []  # the step did not get as far as reading them
    old = _mounted_files(View(_layers(store, next(step for step in earlier.build.steps if step.node == was.node))), was)
    new = _mounted_files(after, now)
    return list(differences_at(sorted({*old, *new}, key=sort_key), old.get, new.get))


def _mounted_files(view: View, files: MountedFiles) -> dict[bytes, Entry]:
    """Mounted files by their names at the target. The directory itself does not count."""
    path, target = view.resolve(os.fsencode(files.path)), os.fsencode(files.target).strip(b"/")
    top = view.lookup(path)
    if top is not None and top.kind is not Kind.DIRECTORY:
        return {target: top}
    return {target + b"/" + entry.path[len(path) :].lstrip(b"/"): entry for entry in view.walk(path)}


def _layers(store: Store, step: BuiltStep) -> list[Toc]:
    """The tables of contents of a step's layers, its own first."""
    changesets = store.snapshots.changesets(step.snapshot)
    return [store.changesets.toc(changeset) for changeset in changesets]
