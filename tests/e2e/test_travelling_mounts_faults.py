"""Cache mounts that travel: what other machines forge or lose, and builds that get in each other's way."""

from __future__ import annotations

import random
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import zstandard

from pybuild.builder.cache_export.write import write_cache
from pybuild.builder.cache_places import CacheExport, LocalCache
from pybuild.store.formats import tar as tarformat
from pybuild.store.formats.cache_index import CachedLayer, CachedMount, CacheIndex
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.store.objects.schema import MIGRATIONS, statements
from pybuild.store.store import Store
from tests.support.caches import LINUX, cache_machine
from tests.support.cli import BASE, Pybuild, prepare_store
from tests.support.machines import Machine, checkout
from tests.support.mounts import PIP, RECIPE, from_, had, mounts_in, notes, to
from tests.support.processes import running
from tests.support.tars import directory, entry, symlink, tar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHOWS = """\
FROM {base}
ARG V=1
RUN --mount=type=cache,id=pip,target=/t find /t | sort | xargs stat -c 'had %n %a %F'; echo $V > /t/$V; echo $V > /made
"""
EMPTY = ["/t 755 directory"]


@pytest.fixture
def machine(tmp_path: Path, base_archive: Path) -> Callable[..., Machine]:
    def made(name: str, recipe: str = RECIPE) -> Machine:
        pybuild = Pybuild(tmp_path / name / "store", {"HOME": str(tmp_path / name)})
        prepare_store(pybuild, base_archive, tmp_path / "base context")
        return Machine(pybuild, checkout(tmp_path / f"checkout of {name}", BASE, recipe))

    return made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def forge(
    tmp_path: Path, cache: Path, key: str, content: bytes, blob: bytes | None = None, saved: int = 1
) -> Path:
    """Give the cache a mount of this key, whose layer is this tar; `blob` are the bytes that it has instead. Returns its file."""
    packed = zstandard.compress(content)
    (tmp_path / "layer").write_bytes(packed)
    layer = CachedLayer(Digest.of(content), Digest.of(packed), len(packed), Compression.ZSTD)
    forger = cache_machine(tmp_path / "forger")
    with forger.store, forger.pool:
        write_cache(
            CacheExport(LocalCache(str(cache))), CacheIndex(), lambda _: str(tmp_path / "layer"),
            forger.store, forger.pool, forger.events.append, tls_verify=True, platform=LINUX,
            mounts=lambda _: (CachedMount(key, "pip", layer, saved, 2),),
        )  # fmt: skip
    path = cache / "blobs" / "sha256" / layer.digest.hex
    if blob is not None:
        path.chmod(0o644)
        path.write_bytes(blob.ljust(len(packed), b"\0")[: len(packed)])
    return path


FILE = entry(b"file", data=b"x")
REFUSED = {
    "outside": (tar(FILE, entry(b"../../x", mode=0o4755)), "leaves the root"),
    "overlay": (tar(entry(b"f", xattrs=((b"user.overlay.opaque", b"y"),))), "would control overlayfs"),
    "whiteout": (tar(FILE, entry(b".wh.other")), "it removes files"),
    "opaque": (tar(directory(b"d/"), entry(b"d/.wh..wh..opq")), "it removes files"),
    "device 0:0": (tar(entry(b"f", tarformat.CHAR)), "is a whiteout for overlayfs"),
    "not a tar": (b"not a tar" * 100, "layer sha256:"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_forged_layer_leaves_an_empty_mount_and_a_note(
    tmp_path: Path, machine: Callable[..., Machine], cache: Path, name: str
) -> None:
    content, reason = REFUSED[name]
    a, b = machine("a", SHOWS), machine("b", SHOWS)
    a.build(to(cache))
    forge(tmp_path, cache, str(mounts_in(a, cache)["pip"]["key"]), content)
    done = b.build(from_(cache), "--build-arg=V=2")
    assert had(done) == EMPTY
    (note,) = notes(done)
    assert note.startswith(f"the cache mount pip is not restored from {cache}: ") and reason in note
    b.pybuild.assert_whole()


def test_a_mount_from_the_future_is_as_old_as_its_arrival(
    tmp_path: Path, machine: Callable[..., Machine], cache: Path
) -> None:
    """Else a machine that has not changed it would replace what others save from now on."""
    a, b = machine("a", SHOWS), machine("b", SHOWS)
    a.build(to(cache))
    forge(tmp_path, cache, str(mounts_in(a, cache)["pip"]["key"]), tar(FILE), saved=1 << 37)
    assert "/t/file 644 regular file" in had(b.build(from_(cache), "--build-arg=V=2"))
    with Store(str(b.pybuild.root)) as store:
        (mount,) = store.cache_mounts.all()
        assert 1 < store.cache_mounts.travel_state(mount.id).saved <= time.time()


def test_links_and_devices_of_a_layer_stay_inside(tmp_path: Path, machine: Callable[..., Machine], cache: Path) -> None:
    """A parent that is a link leads to a place in the mount; a device is an empty file."""
    outside = tmp_path / "outside"
    outside.mkdir()
    a, b = machine("a", SHOWS), machine("b", SHOWS)
    a.build(to(cache))
    members = tar(symlink(b"link", str(outside).encode()), entry(b"link/file"), entry(b"null", tarformat.CHAR, device=(1, 3)))
    forge(tmp_path, cache, str(mounts_in(a, cache)["pip"]["key"]), members)
    found = had(b.build(from_(cache), "--build-arg=V=2"))
    assert f"/t{outside}/file 644 regular empty file" in found and "/t/null 644 regular empty file" in found
    assert list(outside.iterdir()) == []
    b.pybuild.assert_whole()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [("other bytes", "do not match its digest"), ("gone", "has no \"blobs/sha256/"), ("too large", "PYBUILD_LIMIT_LAYER_BYTES")],
)
def test_a_layer_that_cannot_be_had_leaves_an_empty_mount(
    tmp_path: Path, machine: Callable[..., Machine], cache: Path, damage: str, reason: str
) -> None:
    a, b = machine("a", SHOWS), machine("b", SHOWS)
    a.build(to(cache))
    path = cache / "blobs" / "sha256" / str(mounts_in(a, cache)["pip"]["layer"]).removeprefix("sha256:")
    environment = {}
    if damage == "other bytes":
        path.chmod(0o644)
        path.write_bytes(bytes(path.stat().st_size))
    elif damage == "gone":
        path.unlink()
    else:
        environment = {"PYBUILD_LIMIT_LAYER_BYTES": "16m"}
        forge(tmp_path, cache, str(mounts_in(a, cache)["pip"]["key"]), tar(entry(b"f", data=bytes(17 << 20))))
    b = Machine(b.pybuild.with_environment(environment), b.context)
    done = b.build(from_(cache), to(cache), "--build-arg=V=2")
    assert had(done) == EMPTY and reason in notes(done)[0]
    b.pybuild.assert_whole()
    # The build has replaced it.
    assert "/t/2 644 regular file" in had(machine("c", SHOWS).build(from_(cache), "--build-arg=V=3"))


def test_a_mount_that_cannot_be_packed_is_a_note_or_the_error_that_was_asked_for(
    machine: Callable[..., Machine], cache: Path
) -> None:
    a = machine("a", SHOWS.replace("echo $V > /made", "touch /t/.wh.x"))
    done = a.build(to(cache))
    assert "the cache mount pip is not saved: entry \".wh.x\"" in notes(done)[0] and mounts_in(a, cache) == {}
    refused = a.pybuild.refused("--network=none", to(cache, "all", "ignore-error=false"), a.context)
    assert f'cannot write the cache {cache}: the cache mount pip cannot be saved: entry ".wh.x"' in refused


def test_a_budget_drops_mounts_before_the_records_of_the_same_build(machine: Callable[..., Machine], cache: Path) -> None:
    a = machine("a", SHOWS)
    (a.context / "noise").write_bytes(random.Random(1).randbytes(2 << 20))
    recipe = SHOWS.format(base=BASE).replace("RUN ", "COPY noise /noise\nRUN ").replace("echo $V > /t/$V", "cp /noise /t/noise")
    (a.context / "Buildfile").write_text(recipe)
    done = a.build(to(cache, "all", "max-size=3m"))
    assert notes(done) == [f"the cache mount pip does not fit into the cache {cache}, and is not saved there"]
    assert mounts_in(a, cache) == {}
    a.build(to(cache, "all", "max-size=5m"))
    assert set(mounts_in(a, cache)) == {"pip"}


def test_several_caches_get_what_they_lack(tmp_path: Path, machine: Callable[..., Machine], cache: Path) -> None:
    other = tmp_path / "other"
    a = machine("a")
    a.build(to(cache), to(other, "all", "compression=gzip"))
    assert set(mounts_in(a, cache)) == set(mounts_in(a, other)) == {"pip", "/npm"}
    a.build("--build-arg=V=2", to(cache))
    a.build("--build-arg=V=2", to(other))  # nothing has changed since, but for this cache
    for number, place in enumerate((cache, other)):
        assert had(machine(f"b{number}").build(from_(place), "--build-arg=V=3"))[:2] == [f"{PIP}/http/1", f"{PIP}/http/2"]
    # What another machine has saved later stays, if nothing has changed here.
    c = machine("c")
    c.build(from_(cache), to(cache), "--build-arg=V=4")
    a.build("--build-arg=V=2", to(cache))
    assert f"{PIP}/http/4" in had(machine("d").build(from_(cache), "--build-arg=V=5"))


def test_steps_and_builds_at_once_share_one_restored_mount(machine: Callable[..., Machine], cache: Path) -> None:
    stages = "".join(
        f"FROM {{base}} AS s{n}\nARG V=1\nRUN --mount=type=cache,id=pip,target={PIP} ls {PIP} | sed 's|^|had |'; echo $V > {PIP}/$V; echo {n} > /{n}\n"
        for n in (1, 2)
    )
    recipe = stages + "FROM {base}\nCOPY --from=s1 /1 /\nCOPY --from=s2 /2 /\n"
    machine("a", recipe).build(to(cache))
    b = machine("b", recipe)
    with (
        running(b.pybuild, "--progress=json", "--network=none", from_(cache), "--build-arg=V=1b", b.context) as one,
        running(b.pybuild, "--progress=json", "--network=none", from_(cache), "--build-arg=V=2b", b.context) as two,
    ):
        ends = [one.end(), two.end()]
    for done in ends:
        assert done.status == 0 and had(done).count("1") == 2
        assert len([text for text in notes(done) if "is restored" in text]) <= 1
    assert len(list((b.pybuild.root / "cachemounts").iterdir())) == 1
    b.pybuild.assert_whole()


def test_a_mount_that_another_build_has_to_itself_is_not_saved(machine: Callable[..., Machine], cache: Path) -> None:
    recipe = (
        "FROM {base}\nARG V=1\nRUN --mount=type=cache,target=/sync --mount=type=cache,id=own,sharing=locked,target=/t"
        " echo here; while [ $V = 2 ] && [ ! -e /sync/go ]; do sleep 0.05; done; echo $V > /t/file; echo $V > /made\n"
    )
    a = machine("a", recipe)
    a.build()
    with running(a.pybuild, "--progress=json", "--network=none", "--build-arg=V=2", a.context) as build:
        build.wait_for("step_output", "here")
        done = a.build(to(cache, "own"))
        for sync in (a.pybuild.root / "cachemounts").glob("*/fs"):
            if not (sync / "file").exists():
                (sync / "go").touch()
        assert build.end().status == 0
    assert notes(done) == ["the cache mount own is not saved: another build uses it"] and mounts_in(a, cache) == {}


def before_secrets_were_noted(pybuild: Pybuild) -> None:
    """Take from the store's tables what schema 12 and the later ones added to them."""
    texts = [text for version, text in MIGRATIONS.items() if version > 11]
    with closing(sqlite3.connect(pybuild.root / "metadata.db", isolation_level=None)) as db:
        for text in reversed([statement for script in texts for statement in statements(script)]):
            match text.split():
                case ["ALTER", "TABLE", table, "ADD", "COLUMN", column, *_]:
                    db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
                case ["CREATE", "INDEX" | "TABLE" as kind, name, *_]:
                    db.execute(f"DROP {kind} {name}")
                case _:
                    raise AssertionError(f"how is this undone? {text}")
        db.execute("PRAGMA user_version = 11")


def test_mounts_of_a_store_of_before_count_as_having_had_secrets(machine: Callable[..., Machine], cache: Path) -> None:
    a = machine("a", SHOWS)
    a.build()
    before_secrets_were_noted(a.pybuild)
    assert "a step with a secret could write to it" in notes(a.build(to(cache)))[0]
    a.build(to(cache, "pip"))
    assert set(mounts_in(a, cache)) == {"pip"}
