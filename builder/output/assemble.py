"""Assembling an image: config and manifest, from a planned stage and its layers.

Nothing here reads a clock. The history line of a layer has the time at which its step ran, perhaps in an earlier build.
A line without a layer takes the time of the next layer, else of the last one. So a rebuild from the cache gives the
same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from pybuild.builder.annotations import Level, annotations_at
from pybuild.builder.plan.history import COMMENT
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import LAYER_TYPES, MediaType
from pybuild.store.formats.oci_config import CACHE_MEMBER, History, ImageConfig, format_time, normalise_history
from pybuild.store.formats.oci_manifest import Descriptor, Manifest
from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.builder.options import BuildOptions
    from pybuild.builder.plan.graph import PlannedStage
    from pybuild.store.formats.bounded_json import Json
    from pybuild.store.objects.changesets import LayerBlob


@frozen
class BuiltImage:
    """The bytes of an image, ready to be stored."""

    manifest: bytes
    config: bytes

    @property
    def digest(self) -> Digest:
        return Digest.of(self.manifest)


def assemble(
    stage: PlannedStage,
    layers: Sequence[LayerBlob],
    created: Mapping[int, int],
    options: BuildOptions,
    extra: Mapping[str, Json] = MappingProxyType({}),
) -> BuiltImage:
    """Write config and manifest. `layers`: all layers, the lowest first; `created`: node -> when its step ran.

    `extra` are more members of the config.
    """
    config = image_config(stage, [layer.diff_id for layer in layers], created, options)
    if extra or CACHE_MEMBER in config.extra:  # the cache that a base carries is about the base
        others = {name: value for name, value in config.extra.items() if name != CACHE_MEMBER}
        config = replace(config, extra={**others, **extra})
    config_bytes = config.to_bytes()
    manifest = Manifest(
        config=Descriptor(MediaType.OCI_CONFIG, Digest.of(config_bytes), len(config_bytes)),
        layers=tuple(Descriptor(LAYER_TYPES[layer.compression], layer.digest, layer.size) for layer in layers),
        media_type=MediaType.OCI_MANIFEST,
        annotations={
            **options.annotations,
            **annotations_at(options.leveled_annotations, Level.MANIFEST, stage.platform),
        },
    )
    return BuiltImage(manifest.to_bytes(), config_bytes)


def image_config(
    stage: PlannedStage, diff_ids: Sequence[Digest], created: Mapping[int, int], options: BuildOptions
) -> ImageConfig:
    """The config of the base with the changes of the recipe, and a history line for every instruction."""
    if stage.base is not None:
        base = normalise_history(stage.base.config)
    else:
        base = ImageConfig(
            architecture=stage.platform.architecture, os=stage.platform.os, variant=stage.platform.variant,
            created=None, author="", config=stage.state.config, diff_ids=(), history=(),
        )  # fmt: skip
    history = base.history + _history(stage, created, options.created)
    times = [line.created for line in history if line.created]
    execution = stage.state.config
    if options.labels:
        execution = replace(execution, labels={**execution.labels, **options.labels})
    return replace(
        base,
        author=stage.state.author or base.author,
        created=times[-1] if times else None,
        config=execution,
        diff_ids=tuple(diff_ids),
        history=history,
    )


def _history(stage: PlannedStage, created: Mapping[int, int], epoch: int | None) -> tuple[History, ...]:
    times: list[int | None] = [None if line.node is None else created[line.node] for line in stage.history]
    last = next((time for time in reversed(times) if time is not None), None)
    following = last
    for position in range(len(times) - 1, -1, -1):
        if times[position] is None:
            times[position] = following
        else:
            following = times[position]
    if epoch is not None:
        times = [epoch] * len(times)
    return tuple(
        History(
            created=None if time is None else format_time(time),
            created_by=line.text,
            comment=COMMENT,
            empty_layer=line.node is None,
        )
        for line, time in zip(stage.history, times, strict=True)
    )
