"""How many layers are fetched at a time: large ones get workers of their own, small ones share one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.jobs.registry import FetchedBlob
from pybuild.builder.sources.layers import LayerFetcher
from pybuild.builder.workers.pool import Pool
from pybuild.builder.workers.tasks import run_until_complete, wait_until
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.reference import Reference
from pybuild.store.objects.changesets import LayerBlob
from pybuild.store.store import Store

if TYPE_CHECKING:
    from pybuild.builder.jobs.registry import FetchBlob
    from pybuild.builder.workers.pool import OnProgress

_LARGE, _SMALL = 2 << 20, 1000


@dataclass
class _Downloads:
    """Downloads of nothing. Each lasts until all others that may have begun."""

    running: list[int] = field(default_factory=list)
    most: dict[int, int] = field(default_factory=lambda: {_LARGE: 0, _SMALL: 0})  # size -> how many at a time

    async def fetch(self, job: FetchBlob, on_progress: OnProgress) -> FetchedBlob:
        self.running.append(job.size)
        self.most[job.size] = max(self.most[job.size], self.running.count(job.size))
        checks = iter((False, True))  # the first one is made at once, the second after all others have begun
        await wait_until(lambda: next(checks))
        on_progress(job.size, job.size)
        Path(job.path).write_bytes(bytes(job.size))
        self.running.remove(job.size)
        return FetchedBlob()


@pytest.mark.parametrize(
    ("large", "small", "most"), [(1, 3, (1, 1)), (6, 8, (4, 1)), (0, 9, (0, 2)), (2, 60, (2, 4))]
)
def test_small_layers_share_workers(tmp_path: Path, large: int, small: int, most: tuple[int, int]) -> None:
    sizes = [_LARGE] * large + [_SMALL] * small
    blobs = [
        LayerBlob(Digest.of(b"tar %d" % number), Digest.of(b"%d" % number), size, Compression.GZIP)
        for number, size in enumerate(sizes)
    ]
    downloads = _Downloads()
    with Store(str(tmp_path / "store")) as store, Pool() as pool:
        store.places.add([blob.digest for blob in blobs], Reference.parse("registry.test/app:1"), 7)
        fetcher = LayerFetcher(store, pool, lambda _: None)
        run_until_complete(fetcher.fetch(blobs, ways={blob.digest: downloads.fetch for blob in blobs}))
        assert all(store.blobs.has(blob.digest) for blob in blobs)
    assert (downloads.most[_LARGE], downloads.most[_SMALL]) == most
