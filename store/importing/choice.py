"""Which of the images of an archive are meant.

Without a name from the caller all of them are, under the names that the archive gives them. With a name it is the only
one there is, or the one that the archive calls so: by the full name, else by the tag alone, as layouts of skopeo and
umoci have it. skopeo and podman choose in the same way (`oci:DIR:TAG`, `docker-archive:FILE:NAME`), and refuse as well
where a name leaves it open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from pybuild.store.errors import InvalidImage, NotFound
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pybuild.store.formats.platform import Platform
    from pybuild.store.formats.reference import Reference

T = TypeVar("T")
_SHOWN = 10


@frozen
class Offer(Generic[T]):
    """An image that an archive holds. `item` is whatever finds it there; equal items are the same image."""

    item: T
    names: tuple[Reference, ...]
    tag: str = ""  # a name that is only a tag
    platform: Platform | None = None


@frozen
class Choice(Generic[T]):
    """An image that is wanted, and the names that it gets."""

    item: T
    names: tuple[Reference, ...]


def choose(offers: Sequence[Offer[T]], name: Reference | None, host: Platform) -> list[Choice[T]]:
    """What to import. Raises InvalidImage where it is left open, NotFound where nothing is for this platform."""
    offers = _for_platform(offers, host)
    if name is None:
        return _all(offers)
    if not _is_one(offers):
        named = [offer for offer in offers if name in offer.names]
        tagged = [offer for offer in offers if offer.tag and offer.tag == name.tag]
        offers = next((found for found in (named, tagged) if found and _is_one(found)), offers)
    if not _is_one(offers):
        raise InvalidImage(
            f"the archive holds {len(_items(offers))} images, and {name.familiar} is not the name of one of them",
            hint=f"without a NAME all are imported; by name there are: {_listed(offers)}",
        )
    return [Choice(offers[0].item, (name,))]


def _all(offers: Sequence[Offer[T]]) -> list[Choice[T]]:
    owners: dict[Reference, T] = {}
    for offer in offers:
        for name in offer.names:
            if owners.setdefault(name, offer.item) != offer.item:
                raise InvalidImage(f"the archive gives the name {name.familiar} to two images")
    return [Choice(item, tuple(name for name, owner in owners.items() if owner == item)) for item in _items(offers)]


def _for_platform(offers: Sequence[Offer[T]], host: Platform) -> list[Offer[T]]:
    """Of images that differ in nothing but their platform, the one for this machine."""
    groups: dict[tuple[object, ...], list[Offer[T]]] = {}
    for offer in offers:
        groups.setdefault((offer.names, offer.tag), []).append(offer)
    kept = []
    for group in groups.values():
        platforms = [offer.platform for offer in group if offer.platform is not None]
        if len(group) == 1 or len(set(platforms)) < len(group):
            kept += group
            continue
        fitting = [offer for offer in group if offer.platform is not None and host.matches(offer.platform)]
        if not fitting:
            there = ", ".join(sorted(map(str, platforms)))
            raise NotFound(f"the archive has nothing for {host}", hint=f"it is there for: {there}")
        kept.append(fitting[0])
    return kept


def _items(offers: Iterable[Offer[T]]) -> list[T]:
    found: list[T] = []
    for offer in offers:
        if offer.item not in found:
            found.append(offer.item)
    return found


def _is_one(offers: Iterable[Offer[T]]) -> bool:
    return len(_items(offers)) == 1


def _listed(offers: Sequence[Offer[T]]) -> str:
    names = sorted({name.familiar for offer in offers for name in offer.names} | {o.tag for o in offers if o.tag})
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "") or "none"
