"""The last builds: a row for each build, a row for each of its steps, and the inputs of the steps' keys.

With these rows pybuild can explain why a step was not served from the cache, even after the record to compare it with
was evicted. The rows are not part of any object and do not keep any object from being removed.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from pybuild.store.errors import StoreError
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.store.objects.database import Metadata

KEPT_BUILDS = 100
TEXT_LIMIT = 1_000  # characters of an instruction
_SHOWN = 5  # ids in a message
_SLACK = 10  # builds beyond KEPT_BUILDS, before the oldest are removed


_CACHE = "(cache) "  # before the name of a cache, in place of the id of a build; sorts before all ids


class Outcome(Enum):
    """The outcome of a step."""

    CACHED = "cached"
    RAN = "ran"
    FAILED = "failed"
    NOT_RUN = "not run"  # the build ended before it


class MountedFiles(NamedTuple):
    """A mount of a RUN: the files at `path` in the result of `node`, which the RUN sees at `target`."""

    node: int | None  # None: scratch, which has no files
    path: str
    target: str


@frozen
class BuiltStep:
    """A step of a build."""

    node: int
    parent: int | None  # the node that it stands on
    sources: tuple[int, ...]  # the nodes that it reads
    stage: str
    number: int  # counts the steps of a stage from 1; 0 for images and contexts
    line: int
    instruction: str
    outcome: Outcome
    fresh: bool  # the build was told not to use the cache for it
    key: str
    snapshot: int | None
    args: tuple[str, ...]  # the names of the ARGs in scope
    inputs: str  # the fields that its key was made from, as JSON
    mounted: tuple[MountedFiles, ...] = ()  # the files whose digests are among the inputs, in the same order
    platform: str = ""  # for which it was, if the build was for several platforms


@frozen
class StoredBuild:
    """A build. `id` sorts by time; `manifest` is the digest of the image, "" if the build failed."""

    id: str
    recipe: str
    target: str
    manifest: str
    steps: tuple[BuiltStep, ...]

    @property
    def cache(self) -> str:
        """The name of the cache of other machines whose steps these are; "" for a build of this store."""
        return self.id.removeprefix(_CACHE) if self.id.startswith(_CACHE) else ""


def id_of_cache(place: str) -> str:
    """The id under which the steps of a cache are kept, to explain misses by them."""
    return _CACHE + place


def key_in_cache(key: str) -> str:
    """The key of a step of a cache, which says less of its inputs than a step of this store with the same key."""
    return _CACHE + key


def same_key(one: BuiltStep, other: BuiltStep) -> bool:
    """Whether two steps have the same key, here or in a cache."""
    return one.key.removeprefix(_CACHE) == other.key.removeprefix(_CACHE)


class Builds:
    """The last builds of a store."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def add(self, build: StoredBuild) -> None:
        """Store a build, and remove the oldest ones if there are too many.

        A cache is stored as it was seen last, and a build whose plan was solved twice as it ended.
        """
        with self._metadata.transaction() as db:
            db.execute("DELETE FROM builds WHERE id = ?", (build.id,))
            db.execute("INSERT INTO builds VALUES (?, ?, ?, ?)", (build.id, build.recipe, build.target, build.manifest))
            db.executemany(
                "INSERT INTO build_steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(build.id, *_row(step)) for step in build.steps],
            )
            db.executemany(
                "INSERT OR IGNORE INTO step_inputs VALUES (?, ?)", [(step.key, step.inputs) for step in build.steps]
            )
            (count,) = db.execute("SELECT count(*) FROM builds").fetchone()
            if count > KEPT_BUILDS + _SLACK:
                db.execute(
                    "DELETE FROM builds WHERE id NOT IN (SELECT id FROM builds ORDER BY id DESC LIMIT ?)",
                    (KEPT_BUILDS,),
                )
                db.execute("DELETE FROM step_inputs WHERE key NOT IN (SELECT key FROM build_steps)")

    def all(self) -> list[StoredBuild]:
        """All stored builds, the oldest first; before them the steps of caches of other machines."""
        steps: dict[str, list[BuiltStep]] = {}
        for build, *row in self._metadata.all(
            "SELECT build, node, parent, sources, stage, number, line, instruction, outcome, fresh, key, snapshot, args,"
            " mounted, platform, inputs FROM build_steps JOIN step_inputs USING (key) ORDER BY build, node"
        ):
            steps.setdefault(str(build), []).append(_step(row))
        return [
            StoredBuild(str(key), str(recipe), str(target), str(manifest), tuple(steps.get(str(key), ())))
            for key, recipe, target, manifest in self._metadata.all("SELECT * FROM builds ORDER BY id")
        ]

    def oldest(self) -> str:
        """The id of the oldest stored build if older ones might have been removed, else ""."""
        ids = self._metadata.all("SELECT id FROM builds WHERE id NOT LIKE '(%' ORDER BY id")
        return str(ids[0][0]) if len(ids) >= KEPT_BUILDS else ""

    def has_succeeded(self, parent_key: str, instruction: str) -> bool:
        """Whether in a stored build a step with this text succeeded on the parent with this key."""
        row = self._metadata.one(
            "SELECT 1 FROM build_steps b JOIN build_steps s ON s.build = b.build AND s.parent = b.node"
            " WHERE b.key = ? AND s.instruction = ? AND s.outcome IN (?, ?) LIMIT 1",
            parent_key,
            instruction[:TEXT_LIMIT],
            Outcome.CACHED.value,
            Outcome.RAN.value,
        )
        return row is not None

    def ids(self) -> list[str]:
        """The ids of all stored builds, the oldest first."""
        return [str(row[0]) for row in self._metadata.all("SELECT id FROM builds WHERE id NOT LIKE '(%' ORDER BY id")]

    def that_made(self, manifest: str) -> list[str]:
        """The ids of the builds whose image has this digest, the oldest first."""
        return [
            str(row[0]) for row in self._metadata.all("SELECT id FROM builds WHERE manifest = ? ORDER BY id", manifest)
        ]


def matching_build(ids: Sequence[str], name: str) -> str | None:
    """The id that begins or ends with `name`; None if none does. Raises StoreError if several do."""
    found = [build for build in ids if build.startswith(name) or build.endswith(name)]
    if len(found) > 1:
        shown = ", ".join(found[-1 : -_SHOWN - 1 : -1]) + (", …" if len(found) > _SHOWN else "")
        raise StoreError(
            f"the ids of {len(found)} builds begin or end with {name}: {shown}", hint="give more of the id"
        )
    return found[0] if found else None


def _row(step: BuiltStep) -> Sequence[object]:
    return (
        step.node, step.parent, ",".join(map(str, step.sources)), step.stage, step.number, step.line,
        step.instruction[:TEXT_LIMIT], step.outcome.value, step.fresh, step.key, step.snapshot, ",".join(step.args),
        json.dumps(step.mounted), step.platform,
    )  # fmt: skip


def _step(row: Sequence[object]) -> BuiltStep:
    (
        node, parent, sources, stage, number, line, instruction, outcome, fresh, key, snapshot, args, mounted, platform, inputs,
    ) = map(_text, row)  # fmt: skip
    return BuiltStep(
        int(node), int(parent) if parent else None, tuple(int(one) for one in sources.split(",") if one), stage,
        int(number), int(line), instruction, Outcome(outcome), fresh == "1", key, int(snapshot) if snapshot else None,
        tuple(one for one in args.split(",") if one), inputs, tuple(MountedFiles(*files) for files in json.loads(mounted)),
        platform,
    )  # fmt: skip


def _text(value: object) -> str:
    return "" if value is None else str(value)
