"""Which step of which recipe made an object of the store, as far as the store remembers the builds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.store.maintenance.reachability import Graph, StoreObject
from pybuild.store.objects.condemned import Condemnable
from pybuild.store.objects.database import number
from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.store.store import Store


@frozen
class StepOrigin:
    """A step of a recipe. `recipe` is a path, or another name of the recipe; lines count from 1."""

    recipe: str
    line: int
    stage: str
    number: int  # among the steps of its stage, from 1
    instruction: str


@frozen
class StoredLayer:
    """A changeset with all its forms. `size` is what they take on the disk; `images` are the names of those that have it."""

    changeset: str
    size: int  # bytes
    images: tuple[str, ...]
    origin: StepOrigin | None


def origins(store: Store) -> dict[StoreObject, StepOrigin]:
    """The origins of snapshots and changesets: by the newest build that made or used each. Raises StoreError."""
    found = {}
    for snapshot, changeset, recipe, line, stage, count, instruction, _ in store.metadata.all(
        "SELECT s.snapshot, n.changeset, b.recipe, s.line, s.stage, s.number, s.instruction, max(s.build)"
        " FROM build_steps s JOIN builds b ON b.id = s.build JOIN snapshots n ON n.id = s.snapshot"
        " WHERE s.number > 0 GROUP BY s.snapshot ORDER BY max(s.build)"
    ):
        origin = StepOrigin(str(recipe), number(line), str(stage), number(count), str(instruction))
        found[StoreObject(Condemnable.SNAPSHOT, str(snapshot))] = origin
        found[StoreObject(Condemnable.CHANGESET, str(changeset))] = origin
    return found


def stored_layers(graph: Graph, known: dict[StoreObject, StepOrigin]) -> list[StoredLayer]:
    """The changesets of a store, the largest first. `known` is what `origins` returned."""
    images: dict[StoreObject, list[str]] = {}
    for image in graph.images:
        for each in graph.reach([image.object], set()):
            if each.kind is Condemnable.CHANGESET:
                images.setdefault(each, []).extend(image.names)
    layers = [
        StoredLayer(
            each.key,
            graph.size(graph.reach([each], set())),
            tuple(sorted(set(images.get(each, ())))),
            known.get(each),
        )
        for each in graph.objects
        if each.kind is Condemnable.CHANGESET
    ]
    return sorted(layers, key=lambda layer: (-layer.size, layer.changeset))
