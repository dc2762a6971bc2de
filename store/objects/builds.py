"""What became of the last builds: a row for each, one for each of its steps, and what the keys of those were made of.

It tells why a step was not served from the cache, also where the record that it could have been compared with has been
evicted since. The rows are no part of any object, and nothing is kept for them.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from pybuild.store.errors import NotFound, StoreError
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.store.objects.database import Metadata

KEPT_BUILDS = 100
TEXT_LIMIT = 1_000  # characters of an instruction
_SLACK = 10  # builds too many, before somebody removes the oldest


class Outcome(Enum):
    """What became of a step."""

    CACHED = "cached"
    RAN = "ran"
    FAILED = "failed"
    NOT_RUN = "not run"  # the build ended before


class MountedFiles(NamedTuple):
    """Files that a RUN had mounted: what is at `path` in what this node holds (None: nothing), and where it was seen."""

    node: int | None
    path: str
    target: str


@frozen
class BuiltStep:
    """A step of a build. `number` counts those of its stage from 1, and is 0 for images and contexts that it uses.

    `inputs` are the fields that its key was made of, as JSON; `args` the names of the ARGs that it knows; `mounted` the files
    whose digests are among the inputs, in the same order.
    """

    node: int
    parent: int | None  # the node that it stands on
    sources: tuple[int, ...]  # the nodes that it reads
    stage: str
    number: int
    line: int
    instruction: str
    outcome: Outcome
    fresh: bool  # the cache was not to be used for it
    key: str
    snapshot: int | None
    args: tuple[str, ...]
    inputs: str
    mounted: tuple[MountedFiles, ...] = ()


@frozen
class StoredBuild:
    """A build. `id` sorts by time; `manifest` is the digest of the image, "" where the build failed."""

    id: str
    recipe: str
    target: str
    manifest: str
    steps: tuple[BuiltStep, ...]


class Builds:
    """The builds that a store remembers."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def add(self, build: StoredBuild) -> None:
        """Remember a build, and forget the oldest where they have become too many."""
        with self._metadata.transaction() as db:
            db.execute("INSERT INTO builds VALUES (?, ?, ?, ?)", (build.id, build.recipe, build.target, build.manifest))
            db.executemany(
                "INSERT INTO build_steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
        """Those that are remembered, the oldest first."""
        steps: dict[str, list[BuiltStep]] = {}
        for build, *row in self._metadata.all(
            "SELECT build, node, parent, sources, stage, number, line, instruction, outcome, fresh, key, snapshot, args,"
            " mounted, inputs FROM build_steps JOIN step_inputs USING (key) ORDER BY build, node"
        ):
            steps.setdefault(str(build), []).append(_step(row))
        return [
            StoredBuild(str(key), str(recipe), str(target), str(manifest), tuple(steps.get(str(key), ())))
            for key, recipe, target, manifest in self._metadata.all("SELECT * FROM builds ORDER BY id")
        ]

    def oldest(self) -> str:
        """The id of the oldest build that is remembered, if any may have been forgotten; else ""."""
        ids = self._metadata.all("SELECT id FROM builds ORDER BY id")
        return str(ids[0][0]) if len(ids) >= KEPT_BUILDS else ""

    def has_succeeded(self, below: str, instruction: str) -> bool:
        """Whether a build had a step of this text on what has this key, with success."""
        found = self._metadata.one(
            "SELECT 1 FROM build_steps b JOIN build_steps s ON s.build = b.build AND s.parent = b.node"
            " WHERE b.key = ? AND s.instruction = ? AND s.outcome IN (?, ?) LIMIT 1",
            below,
            instruction[:TEXT_LIMIT],
            Outcome.CACHED.value,
            Outcome.RAN.value,
        )
        return found is not None

    def find(self, name: str | None) -> str:
        """The id of a build that is named by its beginning or its end; the last one without a name.

        Raises NotFound where there is none, StoreError where there are several.
        """
        known = [str(row[0]) for row in self._metadata.all("SELECT id FROM builds ORDER BY id")]
        found = [build for build in known if name is None or build.startswith(name) or build.endswith(name)]
        if not found:
            what = "the store remembers no build" if name is None else f"{name}: no such build"
            raise NotFound(what, hint="pybuild why --list shows those that are remembered" if known else None)
        if name is not None and len(found) > 1:
            raise StoreError(f"{name}: {len(found)} builds are called so", hint="pybuild why --list shows them")
        return found[-1]


def _row(step: BuiltStep) -> Sequence[object]:
    return (
        step.node, step.parent, ",".join(map(str, step.sources)), step.stage, step.number, step.line,
        step.instruction[:TEXT_LIMIT], step.outcome.value, step.fresh, step.key, step.snapshot, ",".join(step.args),
        json.dumps(step.mounted),
    )  # fmt: skip


def _step(row: Sequence[object]) -> BuiltStep:
    node, parent, sources, stage, number, line, instruction, outcome, fresh, key, snapshot, args, mounted, inputs = map(
        _text, row
    )
    return BuiltStep(
        int(node), int(parent) if parent else None, tuple(int(one) for one in sources.split(",") if one), stage,
        int(number), int(line), instruction, Outcome(outcome), fresh == "1", key, int(snapshot) if snapshot else None,
        tuple(one for one in args.split(",") if one), inputs, tuple(MountedFiles(*files) for files in json.loads(mounted)),
    )  # fmt: skip


def _text(value: object) -> str:
    return "" if value is None else str(value)
