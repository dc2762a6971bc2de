"""Choosing which images of an archive to import.

If the caller gives no name, every image is imported, under the names that the archive gives it. If the caller gives a
name and the archive has only one image, that one is imported; among several, the one that has this full name in the
archive, else the one whose name is this tag alone, as skopeo and umoci write it into layouts. skopeo and podman choose in
the same way (`oci:DIR:TAG`, `docker-archive:FILE:NAME`), and also refuse an ambiguous name.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Generic, TypeVar

from pybuild.store.errors import InvalidImage, NotFound
from pybuild.store.formats.reference import Reference
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pybuild.store.formats.platform import Platform

T = TypeVar("T")
_MAX_LISTED = 10


@frozen
class ArchivedImage(Generic[T]):
    """An image in an archive. The importer finds it by `item`; equal items are the same image."""

    item: T
    names: tuple[Reference, ...]
    tag: str = ""  # a name that consists of a tag alone
    platform: Platform | None = None


@frozen
class ChosenImage(Generic[T]):
    """An image to import, and the names that it gets in the store."""

    item: T
    names: tuple[Reference, ...]


def choose(images: Sequence[ArchivedImage[T]], name: Reference | None, platform: Platform) -> list[ChosenImage[T]]:
    """The images to import. Raises InvalidImage if `name` is ambiguous, NotFound if none is for `platform`."""
    images = _for_platform(images, platform)
    if name is None:
        return _all(images)
    if not _is_one(images):
        named = [image for image in images if name in image.names]
        tagged = [image for image in images if image.tag and image.tag == name.tag]
        images = next((found for found in (named, tagged) if found and _is_one(found)), images)
    if not _is_one(images):
        raise InvalidImage(
            f"the archive has {len(_items(images))} images, and {name.familiar} is not the name of one of them",
            hint=f"import without a NAME to get all of them, or give one of these names: {_listed(images)}",
        )
    return [ChosenImage(images[0].item, (name,))]


def choose_groups(
    images: Sequence[ArchivedImage[T]], name: Reference | None
) -> list[tuple[list[T], tuple[Reference, ...]]]:
    """The images to import, those that differ in their platform alone together, with their names.

    Raises InvalidImage if `name` is ambiguous.
    """
    groups = _groups(images)
    if name is None:
        return [(_items(group), group[0].names) for group in groups]
    if len(groups) > 1:
        named = [group for group in groups if name in group[0].names]
        tagged = [group for group in groups if group[0].tag and group[0].tag == name.tag]
        groups = next((found for found in (named, tagged) if len(found) == 1), groups)
    if len(groups) > 1:
        raise InvalidImage(
            f"the archive has {len(groups)} images, and {name.familiar} is not the name of one of them",
            hint=f"import without a NAME to get all of them, or give one of these names: {_listed(images)}",
        )
    return [(_items(groups[0]), (name,))]


def _groups(images: Sequence[ArchivedImage[T]]) -> list[list[ArchivedImage[T]]]:
    """The images by name; images without one that are for the same platform are different images."""
    by_name: dict[tuple[object, ...], list[ArchivedImage[T]]] = {}
    for image in images:
        by_name.setdefault((image.names, image.tag), []).append(image)
    found = []
    for group in by_name.values():
        platforms = [image.platform for image in group if image.platform is not None]
        if len(set(platforms)) < len(group):
            found += [[image] for image in group]
        else:
            found.append(group)
    # Two names of one image are two entries with one item.
    whole: dict[tuple[int, ...], list[ArchivedImage[T]]] = {}
    items = _items(images)
    for group in found:
        key = tuple(items.index(item) for item in _items(group))
        known = whole.setdefault(key, group)
        if known is not group:
            names = (*known[0].names, *group[0].names)
            whole[key] = [replace(image, names=names) for image in known]
    return list(whole.values())


def choose_one(images: Sequence[ArchivedImage[T]], name: str, platform: Platform, shown: str) -> ArchivedImage[T]:
    """The one image that `name` means: its name, or its tag alone; "" means the only one. `shown` is the archive.

    Raises NotFound if there is none with this name or for `platform`, InvalidImage if there are several.
    """
    images = _for_platform(_named(images, name, shown), platform)
    if not _is_one(images):
        raise _ambiguous(images, len(_items(images)), name, shown)
    return images[0]


def choose_one_group(images: Sequence[ArchivedImage[T]], name: str, shown: str) -> list[ArchivedImage[T]]:
    """As `choose_one`, but all images that differ in their platform alone.

    Raises NotFound if there is none with this name, InvalidImage if there are several.
    """
    images = _named(images, name, shown)
    groups = _groups(images)
    if len(groups) != 1:
        raise _ambiguous(images, len(groups), name, shown)
    return groups[0]


def _named(images: Sequence[ArchivedImage[T]], name: str, shown: str) -> Sequence[ArchivedImage[T]]:
    """The images that have a name, or this tag; all of them if the name is empty. Raises NotFound."""
    if not name:
        return images
    named = [image for image in images if name == image.tag or name in (ref.tag for ref in image.names)]
    if not named:
        full = Reference.parse(name).with_default_tag()
        named = [image for image in images if full in image.names]
    if not named:
        raise NotFound(f"{shown} has no image {name}", hint=f"it has these names: {_listed(images)}")
    return named


def _ambiguous(images: Sequence[ArchivedImage[T]], count: int, name: str, shown: str) -> InvalidImage:
    return InvalidImage(
        f"{shown} has {count} images{f' named {name}' if name else ''}",
        hint=f"add a name after a colon: {_listed(images)}",
    )


def _all(images: Sequence[ArchivedImage[T]]) -> list[ChosenImage[T]]:
    owners: dict[Reference, T] = {}
    for image in images:
        for name in image.names:
            if owners.setdefault(name, image.item) != image.item:
                raise InvalidImage(f"the archive gives the name {name.familiar} to two images")
    return [
        ChosenImage(item, tuple(name for name, owner in owners.items() if owner == item)) for item in _items(images)
    ]


def _for_platform(images: Sequence[ArchivedImage[T]], wanted: Platform) -> list[ArchivedImage[T]]:
    """Of images that differ only in their platform, keep the one for `wanted`. Raises NotFound if there is none."""
    groups: dict[tuple[object, ...], list[ArchivedImage[T]]] = {}
    for image in images:
        groups.setdefault((image.names, image.tag), []).append(image)
    remaining = []
    for group in groups.values():
        platforms = [image.platform for image in group if image.platform is not None]
        if len(group) == 1 or len(set(platforms)) < len(group):
            remaining += group
            continue
        matching = [image for image in group if image.platform is not None and wanted.matches(image.platform)]
        if not matching:
            available = ", ".join(sorted(map(str, platforms)))
            raise NotFound(f"the archive has no image for {wanted}", hint=f"its platforms are: {available}")
        remaining.append(matching[0])
    return remaining


def _items(images: Iterable[ArchivedImage[T]]) -> list[T]:
    items: list[T] = []
    for image in images:
        if image.item not in items:
            items.append(image.item)
    return items


def _is_one(images: Iterable[ArchivedImage[T]]) -> bool:
    return len(_items(images)) == 1


def _listed(images: Sequence[ArchivedImage[T]]) -> str:
    names = sorted({name.familiar for image in images for name in image.names} | {i.tag for i in images if i.tag})
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more or "none"
