"""A layer that is read once, by two workers: what it gives, what wrong layers give, and that nobody waits for the dead."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.errors import BuildError, PrivilegeError
from pybuild.builder.files.layer_contents import BlobPlace
from pybuild.builder.jobs.registry import FetchBlob, RegistryAccess
from pybuild.builder.steps.fetched_layer import fetch_layer_once, read_layer_once
from pybuild.builder.workers.pool import Pool
from pybuild.builder.workers.tasks import Semaphore, gather, run_until_complete
from pybuild.store.errors import DigestMismatch, InvalidImage, NoSpace, StoreError, UnsafePath
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.toc import Toc
from pybuild.store.layers.compare import tree_difference
from pybuild.store.objects.changesets import TREE
from pybuild.store.store import Store
from pybuild.store.system.directories import opened_directory
from tests.support.disks import small_disk
from tests.support.fake_registry import Image, fake_registry, reply
from tests.support.processes import Process, descendants, survivors
from tests.support.tars import directory, entry, hardlink, tar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pybuild.builder.steps.fetched_layer import LayerFiles
    from pybuild.builder.workers.tasks import Task
    from tests.support.fake_registry import FakeRegistry, Handler, Route

CHECKOUT = Path(__file__).parents[3]
NOISE = random.Random(1).randbytes(1_500_000)
FILES = [
    directory(b"etc/", mode=0o711, uid=3, mtime=5),
    *[entry(b"etc/%d" % number, data=b"%d" % number * 999, uid=number) for number in range(50)],
    entry(b"noise", data=NOISE),
    hardlink(b"same", b"noise"),
]
LAYER = tar(*FILES)
TWICE = tar(*FILES, entry(b"noise", data=b"other"))


@dataclass(frozen=True)
class Layer:
    """A layer and where it can be had."""

    plain: bytes
    blob: bytes
    source: BlobPlace | FetchBlob

    @property
    def diff_id(self) -> Digest:
        return Digest("sha256", hashlib.sha256(self.plain).hexdigest())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(str(tmp_path / "store")) as opened:
        yield opened


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool() as found:
        yield found


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with fake_registry() as found:
        yield found


def stored(store: Store, plain: bytes, blob: bytes | None = None) -> Layer:
    """A layer in the store. `blob`: its bytes there, if they are not those of the layer."""
    right = gzip.compress(plain, 1)
    path = store.ingest.new_path()
    Path(path).write_bytes(right if blob is None else blob)
    digest = f"sha256:{hashlib.sha256(right).hexdigest()}"
    return Layer(plain, right, BlobPlace(path, digest, len(right), "gzip"))


def remote(store: Store, fake: FakeRegistry, plain: bytes, *routes: Callable[[bytes], Route]) -> Layer:
    """A layer in a registry that answers by these routes, made of the blob."""
    image = Image(gzip.compress(plain, 1))
    image.serve(fake)
    if routes:
        fake.on(image.blob_path, *[route(image.layer) for route in routes])
    access = RegistryAccess((), tls_verify=False)
    path, blob = store.ingest.new_path(), image.blob
    kind = MediaType.OCI_LAYER_GZIP
    return Layer(
        plain, image.layer, FetchBlob(access, str(image.reference(fake)), kind, str(blob.digest), blob.size, path)
    )


def reading(
    store: Store, pool: Pool, layer: Layer, diff_id: Digest | None = None, *, want_tree: bool = True
) -> Task[LayerFiles]:
    """Read a layer as a step does: a downloaded one that could not be read is read again, which says why."""
    diff_id = diff_id or layer.diff_id

    async def read_or_fetch() -> LayerFiles:
        source = layer.source
        if isinstance(source, FetchBlob):
            _, files = await fetch_layer_once(
                store, pool, source, diff_id, (), want_tree=want_tree, on_progress=lambda done, total: None
            )
            assert Path(source.path).read_bytes() == layer.blob
            if files is not None:
                return files
            source = BlobPlace(source.path, source.digest, source.size, "gzip")
        return await read_layer_once(store, pool, source, diff_id, (), want_tree=want_tree)

    return read_or_fetch()


def read(store: Store, pool: Pool, layer: Layer, *, want_tree: bool = True) -> LayerFiles:
    return run_until_complete(reading(store, pool, layer, want_tree=want_tree))


def assert_read(found: LayerFiles, *, tree: bool) -> None:
    """The files of a layer are right, and there is a tree, or none."""
    entries = list(Toc.open(found.toc))
    assert [e.path for e in entries if e.sha256 == hashlib.sha256(NOISE).digest()][-1:] == [b"same"]
    assert (found.tree is not None) is tree
    if found.tree is not None:
        with opened_directory(f"{found.tree}/{TREE}") as fd:
            assert tree_difference(fd, entries, lambda: None, content=True) == ""


def left_in(store: Store) -> set[str]:
    """What lies in the store besides its tables."""
    return {
        str(path) for room in ("blobs", "tocs", "trees") for path in Path(store.root, room).rglob("*") if path.is_file()
    }


KINDS = pytest.mark.parametrize("kind", ["stored", "remote"])


def layer_of(kind: str, store: Store, fake: FakeRegistry, plain: bytes) -> Layer:
    return stored(store, plain) if kind == "stored" else remote(store, fake, plain)


@KINDS
def test_a_layer_is_read(kind: str, store: Store, pool: Pool, fake: FakeRegistry) -> None:
    layer = layer_of(kind, store, fake, LAYER)
    assert_read(read(store, pool, layer), tree=True)
    layer = layer_of(kind, store, fake, LAYER)
    assert_read(read(store, pool, layer, want_tree=False), tree=False)


@KINDS
def test_a_tree_that_cannot_be_made_in_one_pass_is_removed(
    kind: str, store: Store, pool: Pool, fake: FakeRegistry
) -> None:
    layer = layer_of(kind, store, fake, TWICE)
    found = read(store, pool, layer)
    assert found.tree is None and Toc.open(found.toc).find(b"noise").size == 5  # type: ignore[union-attr]
    assert [name for name in os.listdir(store.ingest.path) if os.path.isdir(f"{store.ingest.path}/{name}")] == []


WRONG: dict[str, tuple[bytes, type[StoreError], str]] = {
    "a name that leaves the root": (tar(*FILES, entry(b"../x")), UnsafePath, "leaves the root"),
    "a cut tar": (LAYER[:-2000], InvalidImage, "truncated"),
    "no tar": (b"x" * 3000, InvalidImage, "checksum|number"),
}


@KINDS
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_layer_is_refused(kind: str, wrong: str, store: Store, pool: Pool, fake: FakeRegistry) -> None:
    plain, error, text = WRONG[wrong]
    layer = layer_of(kind, store, fake, plain)
    with pytest.raises(error, match=f"^layer sha256:.*({text})"):
        read(store, pool, layer)
    assert left_in(store) == set()
    layer = layer_of(kind, store, fake, LAYER)
    assert_read(read(store, pool, layer), tree=True)  # the workers are ready for more, or new ones are


@KINDS
def test_another_layer_than_the_config_promises_is_refused(
    kind: str, store: Store, pool: Pool, fake: FakeRegistry
) -> None:
    layer = layer_of(kind, store, fake, LAYER)
    with pytest.raises(DigestMismatch, match="the config promises"):
        run_until_complete(reading(store, pool, layer, Digest.of(b"x")))


def test_a_damaged_blob_is_refused(store: Store, pool: Pool) -> None:
    right = gzip.compress(LAYER, 1)
    with pytest.raises(DigestMismatch, match="do not match the digest"):
        read(store, pool, stored(store, LAYER, right[:4] + b"\1" + right[5:]))


@pytest.mark.parametrize("body", [bytes(40), NOISE], ids=["short", "no gzip"])
def test_if_other_bytes_arrive_that_is_the_error(body: bytes, store: Store, pool: Pool, fake: FakeRegistry) -> None:
    """Not that they are no layer."""
    layer = remote(store, fake, LAYER, lambda blob: reply((body + bytes(len(blob)))[: len(blob)]))
    with pytest.raises(DigestMismatch, match=r"blob sha256:[0-9a-f]{64}: the content has"):
        read(store, pool, layer)


def breaking(blob: bytes) -> Route:
    """Serve the first half, and then what is asked for."""

    def route(handler: Handler) -> None:
        first = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        end = len(blob) if first else len(blob) // 2
        handler.send_response(206 if first else 200)
        handler.send_header("Content-Range", f"bytes {first}-{len(blob) - 1}/{len(blob)}")
        handler.send_header("Content-Length", str(len(blob) - first))
        handler.end_headers()
        handler.send(blob[first:end])
        if end < len(blob):
            handler.cut()

    return route


def test_a_broken_download_goes_on_where_it_broke(store: Store, pool: Pool, fake: FakeRegistry) -> None:
    layer = remote(store, fake, LAYER, breaking)
    assert_read(read(store, pool, layer), tree=True)
    assert [seen.headers.get("range", "") for seen in fake.seen if "blobs" in seen.path] == [
        "",
        f"bytes={len(layer.blob) // 2}-",
    ]


def test_more_layers_than_cores_are_read_at_once(store: Store, pool: Pool) -> None:
    """Each one keeps a core until its tree is made: a tree that waited for a core would wait forever."""
    pool._cores = Semaphore(1)
    layers = [stored(store, tar(*FILES, entry(b"n%d" % number))) for number in range(4)]
    for found in run_until_complete(gather(reading(store, pool, each) for each in layers)):
        assert_read(found, tree=True)


def test_without_namespaces_the_layer_is_read(store: Store, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise PrivilegeError("no namespaces here")

    monkeypatch.setattr(pool, "_sandbox_worker", refuse)
    layer = stored(store, LAYER)
    assert_read(read(store, pool, layer), tree=False)


# -- the dead


def workers_of(pid: int) -> dict[str, Process]:
    """The job workers of a process: "reader" outside of the namespace of the steps, "maker" inside, others by number."""
    ours = os.readlink("/proc/self/ns/user")
    found = {}
    for process in descendants(pid):
        if "job_worker" in process.command:
            outside = os.readlink(f"/proc/{process.pid}/ns/user") == ours
            found["reader" if outside else "maker"] = process
        else:
            os.close(process.fd)
    return found


def stalling(then: Callable[[], None]) -> Callable[[bytes], Route]:
    """Serve the first half, call a function, and wait until the client has gone."""

    def made_of(blob: bytes) -> Route:
        def route(handler: Handler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(blob)))
            handler.end_headers()
            handler.send(blob[: len(blob) // 2])
            then()
            handler.until_closed()

        return route

    return made_of


@pytest.mark.parametrize("victim", ["reader", "maker"])
def test_a_killed_worker_ends_the_other_one(victim: str, store: Store, pool: Pool, fake: FakeRegistry) -> None:
    workers: dict[str, Process] = {}

    def kill() -> None:
        while workers.keys() != {"reader", "maker"}:
            workers.update(workers_of(os.getpid()))
        os.kill(workers[victim].pid, signal.SIGKILL)

    layer = remote(store, fake, LAYER, stalling(kill))
    with pytest.raises(BuildError, match="a worker process ended unexpectedly"):
        read(store, pool, layer)
    layer = remote(store, fake, LAYER)
    assert_read(read(store, pool, layer), tree=True)
    pool.stop()
    assert survivors(list(workers.values())) == []


MAIN = """
import sys
from pybuild.builder.jobs.registry import FetchBlob, RegistryAccess
from pybuild.builder.steps.fetched_layer import fetch_layer_once
from pybuild.builder.workers.pool import Pool
from pybuild.builder.workers.tasks import run_until_complete
from pybuild.store.formats.digest import Digest
from pybuild.store.store import Store
root, name, kind, digest, size, diff_id = sys.argv[1:]
with Store(root) as store, Pool() as pool:
    source = FetchBlob(RegistryAccess((), tls_verify=False), name, kind, digest, int(size), store.ingest.new_path())
    run_until_complete(
        fetch_layer_once(store, pool, source, Digest.parse(diff_id), (), want_tree=True, on_progress=print)
    )
"""


def test_no_worker_outlives_the_main_process(tmp_path: Path, fake: FakeRegistry) -> None:
    workers: dict[str, Process] = {}
    started: list[int] = []

    def kill() -> None:
        while workers.keys() != {"reader", "maker"}:
            workers.update(workers_of(started[0]) if started else {})
        os.kill(started[0], signal.SIGKILL)

    with Store(str(tmp_path / "scratch")) as scratch:
        layer = remote(scratch, fake, LAYER, stalling(kill))
    source = layer.source
    assert isinstance(source, FetchBlob)
    arguments = [source.repository, source.media_type, source.digest, str(source.size), str(layer.diff_id)]
    with subprocess.Popen([sys.executable, "-c", MAIN, tmp_path / "store", *arguments], cwd=CHECKOUT) as process:
        started.append(process.pid)
    assert process.returncode == -signal.SIGKILL
    assert survivors(list(workers.values())) == []
    with Store(str(tmp_path / "store")) as store:  # what they wrote lay in their working directory
        assert left_in(store) == set() and os.listdir(f"{store.root}/ingest") == [store.ingest.name]


@contextmanager
def small_store(place: Path, size: str) -> Iterator[Store]:
    with small_disk(place, f"size={size}") as disk, Store(str(disk / "store")) as store:
        yield store


@pytest.mark.parametrize(
    ("size", "data"),
    [("4m", b"blob" * 1_000_000), ("2m", NOISE + NOISE[::-1])],
    ids=["for the tree", "for the blob"],
)
def test_a_full_disk_ends_both(size: str, data: bytes, tmp_path: Path, pool: Pool, fake: FakeRegistry) -> None:
    with small_store(tmp_path / "small", size) as store:
        with pytest.raises(NoSpace, match="the store"):
            read(store, pool, remote(store, fake, tar(entry(b"f", data=data), entry(b"g", data=data))))
        assert left_in(store) == set()
        pool.stop()
