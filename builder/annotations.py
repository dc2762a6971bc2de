"""Annotations of an image: at which level, for which platform. Levels and their names are BuildKit's.

Source: BuildKit's exporter/containerimage/exptypes/annotations.go; OCI image-spec, annotations.md.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from pybuild.store.formats.platform import Platform
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable


class Level(Enum):
    """Where an annotation is written."""

    MANIFEST = "manifest"
    INDEX = "index"
    MANIFEST_DESCRIPTOR = (
        "manifest-descriptor"  # the entry of a manifest in the index; of one image, as INDEX_DESCRIPTOR
    )
    INDEX_DESCRIPTOR = "index-descriptor"  # the entry in the index.json of a layout

    @property
    def of_index(self) -> bool:
        return self in (Level.INDEX, Level.INDEX_DESCRIPTOR)


@frozen
class Annotation:
    """One annotation; `platform` limits it to the image of one."""

    level: Level
    key: str
    value: str
    platform: Platform | None = None


def annotations_at(annotations: Iterable[Annotation], level: Level, platform: Platform | None = None) -> dict[str, str]:
    """Those of one level, and of a manifest for this platform; one for the platform wins."""
    found = [one for one in annotations if one.level is level]
    everywhere = {one.key: one.value for one in found if one.platform is None}
    if platform is None:
        return everywhere
    return everywhere | {one.key: one.value for one in found if one.platform and one.platform.matches(platform)}


def misplaced(annotations: Iterable[Annotation], platforms: Iterable[Platform], *, several: bool) -> str | None:
    """Why one of these cannot be written to an image for these platforms; None if all can."""
    known = list(platforms)
    for one in annotations:
        if one.level.of_index and not several:
            return f"{one.level.value}:{one.key}: an image for one platform has no index; --platform with several makes one"
        if one.platform is not None and not any(one.platform.matches(platform) for platform in known):
            has = ", ".join(map(str, known))
            return f"{one.level.value}[{one.platform}]:{one.key}: the image is for {has}"
    return None
