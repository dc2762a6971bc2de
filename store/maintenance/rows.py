"""Rows of the tables that cannot be right: a value of another type, a text that is no digest, a row that refers to nothing.

SQLite has no checksums, so a flipped bit in a value is no error for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pybuild.store.formats.compression import Compression

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.store.objects.database import Metadata

_TYPES = {"INTEGER": "integer", "TEXT": "text"}
_DIGESTS = {
    "blobs": ("digest",),
    "layer_blobs": ("diff_id", "digest"),
    "claims": ("diff_id", "digest"),
    "places": ("digest",),
    "tars": ("diff_id",),
    "images": ("manifest", "config"),
    "indexes": ("digest", "manifest"),
    "tag_log": ("manifest",),
    "downloads": ("digest",),
}
_COMPRESSED = ("layer_blobs", "claims")
_IS_DIGEST = (
    "(({0} GLOB 'sha256:*' AND length({0}) = 71 OR {0} GLOB 'sha512:*' AND length({0}) = 135)"
    " AND substr({0}, 8) NOT GLOB '*[^0-9a-f]*')"
)


class WrongRows(NamedTuple):
    """Rows of one table that cannot be right for one reason."""

    table: str
    reason: str
    condition: str  # of the rows, in SQL
    rows: int


def wrong_rows(metadata: Metadata) -> Iterator[WrongRows]:
    """All of them. Raises StoreError if SQLite cannot read the tables."""
    for (table,) in metadata.all("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"):
        for reason, condition in _conditions(metadata, str(table)):
            ((count,),) = metadata.all(f"SELECT count(*) FROM {table} WHERE {condition}")
            if count:
                yield WrongRows(str(table), reason, condition, int(str(count)))


def _conditions(metadata: Metadata, table: str) -> Iterator[tuple[str, str]]:
    for column, declared in metadata.all(f"SELECT name, type FROM pragma_table_info('{table}')"):
        if declared in _TYPES:
            wanted = _TYPES[str(declared)]
            yield f"{column} is no {wanted}", f"{column} IS NOT NULL AND typeof({column}) != '{wanted}'"
    for column in _DIGESTS.get(table, ()):
        yield f"{column} is no digest", f"{column} IS NOT NULL AND NOT {_IS_DIGEST.format(column)}"
    if table in _COMPRESSED:
        known = ", ".join(f"'{kind.value}'" for kind in Compression)
        yield "compression is unknown", f"compression NOT IN ({known})"
    for parent, column, target in metadata.all(
        f'SELECT "table", "from", "to" FROM pragma_foreign_key_list(\'{table}\')'
    ):
        if target is None:
            ((target,),) = metadata.all(f"SELECT name FROM pragma_table_info('{parent}') WHERE pk = 1")
        yield (
            f"{column} refers to nothing in {parent}",
            f"{column} IS NOT NULL AND {column} NOT IN (SELECT {target} FROM {parent})",
        )
