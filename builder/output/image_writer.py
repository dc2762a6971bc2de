"""Writes the images of a solved plan into the store: one for each platform and each compression that an output asks for."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from pybuild.builder.events import BuiltLayer
from pybuild.builder.output.annotate import annotated
from pybuild.builder.output.assemble import assemble
from pybuild.builder.sources.layers import LayerFetcher
from pybuild.builder.steps.layer_forms import ensure_layer
from pybuild.builder.workers.tasks import gather, run_until_complete
from pybuild.store.errors import NotFound
from pybuild.store.formats.media_types import COMPRESSIONS
from pybuild.store.objects.changesets import LayerBlob
from pybuild.store.objects.indexes import images_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence, Set

    from pybuild.builder.events import AddedContent
    from pybuild.builder.plan.graph import Plan, PlannedStage
    from pybuild.builder.session import Session
    from pybuild.builder.solve.node_keys import NodeResult
    from pybuild.store.formats.bounded_json import Json
    from pybuild.store.formats.compression import Compression
    from pybuild.store.objects.images import StoredImage
    from pybuild.store.objects.indexes import Stored
    from pybuild.store.store import Store

    MoreConfig = Callable[[PlannedStage, Sequence[LayerBlob], Compression], Mapping[str, Json]]


class ImageWriter:
    """Turns a solved plan into an image, or into the index of one image for each platform."""

    def __init__(self, session: Session, plan: Plan, results: Mapping[int, NodeResult], more: MoreConfig) -> None:
        """`more` gives further members of the config of an image."""
        self._session = session
        self._store = session.store
        self._fetcher = LayerFetcher.of(session)
        self._plan = plan
        self._results = results
        self._more = more

    def store(self, compression: Compression) -> Stored:
        """Make the missing layers, write configs and manifests, and store them. Idempotent."""
        images = [self._image(stage, compression) for stage in self._plan.images]
        if not self._session.options.platforms:
            return images[0]
        index = annotated(self._store.indexes.of(images), self._session.options.leveled_annotations)
        return self._store.indexes.add(index, self._store.ingest.new_path())

    def layers(self, stored: Stored) -> tuple[BuiltLayer, ...]:
        """All layers of what `store` made, each once, with the instruction that made it."""
        pairs = zip(self._plan.images, images_of(stored), strict=True)
        lists = [self._image_layers(stage, image) for stage, image in pairs]
        if not self._session.options.platforms:
            return tuple(lists[0])
        found: dict[tuple[str, str], BuiltLayer] = {}
        for layer in chain.from_iterable(lists):
            known = found.setdefault((layer.digest, layer.instruction), layer)
            platforms = tuple(dict.fromkeys((*known.platforms, *layer.platforms)))
            found[(layer.digest, layer.instruction)] = replace(known, platforms=platforms)
        return tuple(found.values())

    def _image_layers(self, stage: PlannedStage, image: StoredImage) -> list[BuiltLayer]:
        made = [self._plan.nodes[node].text for node in _nodes(stage)]
        layers = image.manifest.layers
        texts = [""] * (len(layers) - len(made)) + made
        platforms = (str(image.exact_platform),) if self._session.options.platforms else ()
        return [
            BuiltLayer(str(layer.digest), layer.size, text, platforms)
            for layer, text in zip(layers, texts, strict=True)
        ]

    def largest(self, made: Set[int]) -> tuple[AddedContent, ...]:
        """The largest things in those layers of the images that this build made. `made`: the nodes that it made."""
        from pybuild.builder.output.added import largest_added  # a local import: a cached build added nothing

        new: dict[str, str] = {}  # changeset -> instruction
        for stage in self._plan.images:
            nodes = _nodes(stage)
            changesets = self._store.snapshots.changesets(self._snapshot(stage))[::-1]
            pairs = zip(nodes, changesets[len(changesets) - len(nodes) :], strict=True)
            new |= {changeset: self._plan.nodes[node].text for node, changeset in pairs if node in made}
        return largest_added(self._store, list(new.items()))

    def _snapshot(self, stage: PlannedStage) -> int | None:
        return None if stage.node is None else self._results[stage.node].snapshot

    def _image(self, stage: PlannedStage, compression: Compression) -> StoredImage:
        created = {node: result.created for node, result in self._results.items()}
        layers = self._layers(stage, compression)
        built = assemble(stage, layers, created, self._session.options, self._more(stage, layers, compression))
        scratch = (self._store.ingest.new_path(), self._store.ingest.new_path())
        return self._store.images.add(built.manifest, built.config, self._snapshot(stage), scratch)

    def _layers(self, stage: PlannedStage, compression: Compression) -> list[LayerBlob]:
        """All layers, the lowest first. Those of the base are the very blobs that were pulled or imported."""
        layers = [] if stage.base is None else _base_layers(self._store, stage.base)
        changesets = self._store.snapshots.changesets(self._snapshot(stage))
        clamp = self._session.options.clamp
        new = range(len(changesets) - len(layers))
        return layers + run_until_complete(
            gather(ensure_layer(self._fetcher, changesets, number, clamp, compression) for number in reversed(new))
        )


def _nodes(stage: PlannedStage) -> list[int]:
    """The nodes that made the layers above the base, the lowest first."""
    return [line.node for line in stage.history if line.node is not None]


def _base_layers(store: Store, base: StoredImage) -> list[LayerBlob]:
    layers = []
    for descriptor, diff_id in zip(base.manifest.layers, base.config.diff_ids, strict=True):
        if not store.blobs.has(descriptor.digest) and not store.places.of(descriptor.digest):
            raise NotFound(
                f"layer {descriptor.digest} of the base image is missing",
                hint="pybuild fsck lists everything that is damaged",
            )
        layers.append(LayerBlob(diff_id, descriptor.digest, descriptor.size, COMPRESSIONS[descriptor.media_type]))
    return layers
