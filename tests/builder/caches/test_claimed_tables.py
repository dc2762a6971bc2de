"""Tables of contents of other machines: one that cannot be had is a note, and no more are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builder.cache_places import LocalCache
from pybuild.builder.caches.claimed_tables import ClaimedTables
from pybuild.builder.events import Note
from pybuild.builder.session import Session
from pybuild.builder.workers.pool import Pool
from pybuild.builder.workers.tasks import run_until_complete
from pybuild.store.formats.cache_index import CachedLayer, CachedTable
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.store.store import Store
from tests.support.recipes import options

if TYPE_CHECKING:
    from pathlib import Path

    from pybuild.builder.events import Event

CHAIN = Digest.of(b"chain")


def test_a_pack_that_does_not_fit_on_the_disk(tmp_path: Path) -> None:
    """It is not fetched until the disk is full."""
    events: list[Event] = []
    pack = CachedLayer(CHAIN, CHAIN, 1 << 60, Compression.ZSTD)
    place = LocalCache(str(tmp_path))
    with Store(str(tmp_path / "store")) as store, Pool() as pool:
        session = Session(store, pool, options(), events.append)
        tables = ClaimedTables(session, lambda chain: (place, CachedTable(chain, None, pack)))
        assert tables.has(CHAIN)
        assert run_until_complete(tables.of(CHAIN, ())) is None
        assert not tables.has(CHAIN)
    (note,) = events
    assert isinstance(note, Note) and "is more than what is left" in note.text
