"""The names of images, in the table tag_log.

A name can stand for several images, one for each platform. Each time that a name is given to an image, a row is added; a
row without a manifest says that the name was removed from everything. Rows are never changed, so the store knows every
image that a name referred to, and which recipe set it. For each platform the last row since the last removal counts.
Rows of stores before version 8 have no platform: such a row counts until the next one of its name.

A name can also be given to an index: then each of its images gets a row that says so (`Tag.part_of`), after a row that takes
the name from all other images. What a name means is what it was given last: an index, or one image.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.store.formats.digest import Digest
from pybuild.store.objects.database import number
from pybuild.values import frozen

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from pybuild.store.formats.reference import Reference
    from pybuild.store.objects.database import Metadata


@frozen
class Tag:
    """A name of an image. `at` is when the name was set, in seconds since the epoch."""

    name: str
    manifest: Digest
    at: int
    platform: str = ""  # such as linux/arm64; "" if it is not known
    recipe: str = ""
    part_of: Digest | None = None  # the index that the name was given to


def current(rows: Iterable[tuple[object, ...]]) -> list[Tag]:
    """The tags of one name that count, the newest first.

    `rows` are all rows of the name, the newest first: (name, manifest or None, at, platform, recipe, index or "").
    """
    found: list[Tag] = []
    for name, manifest, at, platform, recipe, index in rows:
        if manifest is None or (not platform and found):
            break
        if all(tag.platform != platform for tag in found):
            part_of = Digest.parse(str(index)) if index else None
            found.append(Tag(str(name), Digest.parse(str(manifest)), number(at), str(platform), str(recipe), part_of))
        if not platform:
            break
    return found


class Names:
    """The names of the images of a store. Those who change several things at once pass the transaction's connection."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def of(self, reference: Reference) -> list[Tag]:
        """The tags of a name, one for each platform, the newest first."""
        return current(
            self._metadata.all(
                "SELECT name, manifest, at, platform, recipe, part_of FROM tag_log WHERE name = ? ORDER BY id DESC",
                str(reference.with_default_tag()),
            )
        )

    def all(self) -> list[Tag]:
        """All tags that count, by name; those of one name with the newest first."""
        rows = self._metadata.all(
            "SELECT name, manifest, at, platform, recipe, part_of FROM tag_log WHERE id IN"
            " (SELECT max(id) FROM tag_log GROUP BY name, platform, manifest IS NULL) ORDER BY name, id DESC"
        )
        by_name: dict[object, list[tuple[object, ...]]] = {}
        for row in rows:
            by_name.setdefault(row[0], []).append(row)
        return [tag for rows_of_name in by_name.values() for tag in current(rows_of_name)]

    @staticmethod
    def add(db: sqlite3.Connection, tag: Tag) -> None:
        """Give an image a name."""
        db.execute(
            "INSERT INTO tag_log (name, at, manifest, recipe, platform, part_of) VALUES (?, ?, ?, ?, ?, ?)",
            (
                tag.name,
                tag.at,
                str(tag.manifest),
                tag.recipe,
                tag.platform,
                "" if tag.part_of is None else str(tag.part_of),
            ),
        )

    def remove(self, db: sqlite3.Connection, reference: Reference, now: int, keep: Iterable[Tag] = ()) -> None:
        """Remove a name from all its images, except from those of the tags in `keep`, which are the newest first."""
        db.execute(
            "INSERT INTO tag_log (name, at, manifest, recipe) VALUES (?, ?, NULL, '')",
            (str(reference.with_default_tag()), now),
        )
        for tag in reversed(list(keep)):
            self.add(db, replace(tag, part_of=None))  # the index lacks an image from now on
