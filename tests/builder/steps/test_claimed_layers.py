"""Layers on which files are placed by what caches say: several say it, and others read the layer at the same time."""

from __future__ import annotations

import gzip
import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.errors import ClaimedTableWrong
from pybuild.builder.session import Session
from pybuild.builder.steps.layer_stack import LayerStacks
from pybuild.builder.workers.pool import Pool
from pybuild.builder.workers.tasks import run_until_complete
from pybuild.store.errors import ReadOnly
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.toc import Entry, Kind, Toc
from pybuild.store.layers.claimed_table import claimed_digest, read_claimed_table
from pybuild.store.layers.read import read_layer
from pybuild.store.layers.view import View
from pybuild.store.objects.changesets import LayerBlob
from pybuild.store.objects.records import KeyKind
from pybuild.store.store import Store
from tests.support.recipes import options
from tests.support.tars import directory, entry, tar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LAYER = tar(directory(b"etc/"), entry(b"etc/passwd", data=b"web:x:7:8::/:/bin/sh\n"))
TRUE = read_claimed_table(Toc.of(read_layer(io.BytesIO(LAYER), View([]))), View([]))
WRONG = [Entry(b"etc", Kind.DIRECTORY, 0o777, uid=5)]


@dataclass
class Tables:
    """What a cache says of every layer. `meanwhile` happens while its table is read."""

    store: Store
    rows: list[Entry]
    meanwhile: Callable[[], object] = lambda: None

    def has(self, chain: Digest) -> bool:
        return True

    async def of(self, chain: Digest, below: Sequence[str]) -> Table:
        path = Toc.write(self.store.ingest.new_path(), self.rows)
        self.meanwhile()
        return Table(path, claimed_digest(self.rows))


@dataclass(frozen=True)
class Table:
    path: str
    digest: str


@dataclass
class Bench:
    """A store with a layer that nobody has read, and the snapshot of it."""

    store: Store
    pool: Pool
    snapshot: int = field(init=False)
    changeset: str = field(init=False)

    def __post_init__(self) -> None:
        data = gzip.compress(LAYER)
        path = self.store.ingest.new_path()
        Path(path).write_bytes(data)
        diff_id = Digest("sha256", hashlib.sha256(LAYER).hexdigest())
        blob = LayerBlob(diff_id, Digest.of(data), len(data), Compression.GZIP)
        self.changeset = self.store.changesets.add_claimed(blob)
        self.store.changesets.adopt_blob(path, blob)
        self.snapshot = self.store.snapshots.add(None, self.changeset)

    def build(self, rows: list[Entry], meanwhile: Callable[[], object] = lambda: None) -> LayerStacks:
        """The layers as one build sees them that has a cache with this table."""
        session = Session(self.store, self.pool, options(), lambda event: None)
        return LayerStacks(session, frozenset(), Tables(self.store, rows, meanwhile))

    def place(self, stacks: LayerStacks) -> View:
        """What a step sees that places files."""
        return stacks.view(run_until_complete(stacks.claimed(self.snapshot)))

    def read(self, stacks: LayerStacks) -> View:
        """What a step sees that reads files."""
        return stacks.view(run_until_complete(stacks.layers(self.snapshot)))

    def record(self) -> None:
        """The record of a step on the layer."""
        above = self.store.snapshots.add(self.snapshot, self.store.changesets.add([], self.store.ingest.new_path()))
        self.store.records.add({"k": KeyKind.CONTENT}, above, self.snapshot, "k", "{}", 1)

    @property
    def recorded(self) -> bool:
        return self.store.records.find("k", self.snapshot) is not None


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Store(str(tmp_path / "store")) as store, Pool() as pool:
        yield Bench(store, pool)


def passwd(view: View) -> Entry:
    found = view.lookup(b"etc/passwd")
    assert found is not None
    return found


def test_a_true_table(bench: Bench) -> None:
    """It tells what the layer holds; whoever reads files gets the table that was made from the bytes."""
    stacks = bench.build(TRUE)
    assert passwd(bench.place(stacks)).offset == -1
    bench.record()
    assert passwd(bench.read(stacks)).offset > 0
    stacks.check_claimed()
    assert bench.recorded


@pytest.mark.parametrize("rows", [TRUE, WRONG])
def test_a_layer_that_is_read_while_its_table_is_fetched(bench: Bench, rows: list[Entry]) -> None:
    """What was made from its bytes counts: the table of the cache would be compared with nothing, and has no contents."""
    other = bench.build(TRUE)
    stacks = bench.build(rows, lambda: bench.read(other))
    assert passwd(bench.place(stacks)).offset > 0
    assert bench.store.changesets.claimed_table(bench.changeset) == ""


def test_caches_that_disagree(bench: Bench) -> None:
    """A wrong table serves first. A cache that says something else does not hide that: the layer is read."""
    bench.place(bench.build(WRONG))
    bench.record()
    with pytest.raises(ClaimedTableWrong):
        bench.place(bench.build(TRUE))
    assert not bench.recorded
    assert passwd(bench.place(bench.build(WRONG))).offset > 0


def test_a_wrong_table_after_a_true_one(bench: Bench) -> None:
    """What was made by the true one stays."""
    bench.place(bench.build(TRUE))
    bench.record()
    assert passwd(bench.place(bench.build(WRONG))).offset > 0
    assert bench.recorded


def test_another_build_finds_a_table_wrong_while_files_are_placed_by_it(bench: Bench) -> None:
    """A step that ends after that is not recorded, and no more steps are made on what it saw."""
    stacks = bench.build(WRONG)
    bench.place(stacks)
    with pytest.raises(ClaimedTableWrong):
        bench.read(bench.build(TRUE))
    with pytest.raises(ClaimedTableWrong):
        stacks.check_claimed()
    with pytest.raises(ClaimedTableWrong):
        bench.read(stacks)


def test_a_store_to_which_nothing_can_be_written(bench: Bench) -> None:
    """A layer can be read all the same, and what was said of it is compared."""
    bench.place(bench.build(WRONG))
    bench.store.obstacle = bench.store.metadata.obstacle = ReadOnly("read-only")
    with pytest.raises(ClaimedTableWrong):
        bench.read(bench.build([]))
    assert passwd(bench.read(bench.build([]))).offset > 0


def test_a_layer_of_which_nothing_was_said_in_a_store_to_which_nothing_can_be_written(bench: Bench) -> None:
    bench.store.obstacle = bench.store.metadata.obstacle = ReadOnly("read-only")
    assert passwd(bench.read(bench.build([]))).offset > 0
