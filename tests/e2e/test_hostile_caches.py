"""Caches that lie, break or go away: the image is right all the same, and the store stays whole."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from pybuild.store.formats import tar as tarformat
from pybuild.store.formats.cache_index import CachedLayer, CacheIndex
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.oci_config import CACHE_MEMBER
from tests.support.archive import read_archive
from tests.support.cli import BASE, Pybuild, copy_store
from tests.support.hostile_caches import SpoiledCache, with_config
from tests.support.machines import Machine, checkout
from tests.support.tars import directory, entry, hardlink, symlink, tar
from tests.support.upload_registry import UploadRegistry, upload_registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pybuild.store.formats.cache_image import CacheImage
    from pybuild.store.formats.cache_index import CacheRecord
    from tests.support.cli import Done

RECIPE = """\
FROM {base} AS builder
WORKDIR /w
COPY src/ src/
RUN cat src/a src/sub/b > out
FROM {base}
COPY settings /etc/settings
COPY --from=builder /w/out /out
RUN wc -l /out > /lines
ENV A=1
"""
EPOCH = {"SOURCE_DATE_EPOCH": "1000", "PYBUILD_LIMIT_RETRIES": "1"}  # all machines make the same layers
registry = pytest.fixture(upload_registry)


class Machines:
    """Machines whose stores have the base image, and a cache that one of them wrote."""

    def __init__(self, directory: Path, seed: Path) -> None:
        self._directory = directory
        self._seed = seed
        first = self.new("first")
        self.expected = first.build(f"--cache-to=type=local,dest={directory}/cache,mode=max").out
        self.cache = SpoiledCache.read(directory / "cache")

    def new(self, name: str, recipe: str = RECIPE) -> Machine:
        """A machine that has built nothing. Its results do not depend on its name."""
        directory = self._directory / name
        directory.mkdir()
        copy_store(self._seed, directory / "store")
        context = checkout(directory / "checkout", BASE, recipe)
        return Machine(Pybuild(directory / "store", {**EPOCH, "HOME": str(directory)}), context)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory, store_with_base: Path) -> Machines:
    return Machines(tmp_path_factory.mktemp("machines"), store_with_base)


@pytest.fixture
def machine(machines: Machines, request: pytest.FixtureRequest) -> Machine:
    return machines.new(Digest.of(request.node.name.encode()).hex[:20])


def right(machine: Machine, machines: Machines, *options: str) -> Done:
    """A build that gives the right image, without a traceback, and leaves a store that is whole."""
    done = machine.build(*options)
    assert done.out == machines.expected, done.err
    assert "Traceback" not in done.err and "will not remember" not in done.err, done.err
    assert machine.pybuild("fsck", "--deep").out.endswith("0 damaged, 0 left over\n")
    machine.pybuild.assert_whole()
    return done


def notes(done: Done) -> list[str]:
    return [str(event["text"]) for event in done.events if event["event"] == "note"]


def test_the_cache_is_good(machine: Machine, machines: Machines, tmp_path: Path) -> None:
    """What all others spoil serves everything."""
    done = right(machine, machines, machines.cache.write(tmp_path / "cache"), "--require-cached")
    assert notes(done) == []


OWN = b"evil\n"
TARS: dict[str, bytes] = {
    "a path that leaves the root": tar(entry(b"../../x", data=OWN, mode=0o4755)),
    "a path behind a link": tar(symlink(b"l", b"/etc"), entry(b"l/../../x", data=OWN)),
    "trusted.overlay": tar(directory(b"d", xattrs=((b"trusted.overlay.opaque", b"y"),))),
    "user.overlay": tar(directory(b"d", xattrs=((b"user.overlay.redirect", b"/etc"),))),
    "a whiteout as a device": tar(entry(b"f", tarformat.CHAR)),
    "a hard link to outside": tar(hardlink(b"x", b"../../etc/passwd")),
    "a hard link to nothing": tar(hardlink(b"x", b"etc/passwd")),
    "a member without an end": tar(entry(b"f", data=b"x" * 2000))[:1200],
    "no tar": b"not a tar" * 100,
    "a name that is too long": tar(entry(b"n" * 300)),
}
LAST = "COPY --from=builder"




def without(cache: SpoiledCache, words: str) -> SpoiledCache:
    """The cache without a step."""
    cache.index = CacheIndex(tuple(one for one in cache.index.records if words not in one.step.instruction))
    return cache


def archive(tmp_path: Path) -> str:
    return f"--output=type=oci,dest={tmp_path}/out.tar"


def same_archive(tmp_path: Path, machines: Machines) -> None:
    """Assert that an archive is right: its layers are what its config says, and it is the image."""
    assert read_archive(tmp_path / "out.tar").digest == machines.expected.strip()


@pytest.mark.parametrize("name", TARS)
def test_a_layer_that_is_refused(machines: Machines, tmp_path: Path, name: str) -> None:
    """Once in a build that is all cached and writes an archive, and once in one whose last RUN stands on the layer."""
    cache = machines.cache.copy()
    cache.give_tar(LAST, TARS[name])
    all_cached, missing = machines.new(f"cached {name}"), machines.new(f"missing {name}")
    done = right(all_cached, machines, cache.write(tmp_path / "cache"), archive(tmp_path))
    same_archive(tmp_path, machines)
    assert all_cached.ran(done)
    assert any("a cached step is not used" in text for text in notes(done))
    done = right(missing, machines, without(cache, "wc -l").write(tmp_path / "cache"))
    assert any("a cached step is not used" in text for text in notes(done))


@pytest.mark.parametrize("place", ["registry", "directory"])
def test_a_layer_that_cannot_be_unpacked(
    machine: Machine, machines: Machines, registry: UploadRegistry, tmp_path: Path, place: str
) -> None:
    """No rule for layers forbids it, but no kernel takes this attribute."""
    cache = without(machines.cache.copy(), "wc -l")
    cache.give_tar(LAST, tar(entry(b"f", xattrs=((b"security.capability", b"\1"),))))
    option = cache.serve(registry) if place == "registry" else cache.write(tmp_path / "cache")
    done = right(machine, machines, option)
    assert any("cannot be unpacked here" in text for text in notes(done))


LIES: dict[str, Callable[[SpoiledCache], object]] = {
    "another tar": lambda it: it.give_layer(LAST, gzip.compress(tar(entry(b"out", data=OWN)))),
    "the diff_id of another layer": lambda it: it.give_layer(
        LAST, gzip.compress(tar(entry(b"out", data=OWN))), diff_id=it.layer("settings").diff_id
    ),
    "no gzip": lambda it: it.give_layer(LAST, b"not gzip"),
    "gzip without an end": lambda it: it.give_layer(LAST, it.blobs[it.layer(LAST).digest][:-9]),
    "a terabyte": lambda it: it.give_layer(LAST, b"x", size=1 << 40),
    "another size": lambda it: it.give_layer(LAST, it.blobs[it.layer(LAST).digest], size=7),
    "no size": lambda it: it.give_layer(LAST, it.blobs[it.layer(LAST).digest], size=0),
}


@pytest.mark.parametrize("name", LIES)
@pytest.mark.parametrize("place", ["registry", "directory"])
def test_a_layer_that_is_not_what_the_cache_says(
    machines: Machines, registry: UploadRegistry, tmp_path: Path, name: str, place: str
) -> None:
    cache = machines.cache.copy()
    LIES[name](cache)
    for words in ("", "wc -l"):
        cache = without(cache, words) if words else cache
        option = cache.serve(registry) if place == "registry" else cache.write(tmp_path / "cache")
        machine = machines.new(f"{name} {place} {words}")
        done = right(machine, machines, option, archive(tmp_path))
        same_archive(tmp_path, machines)
        assert any("a cached step is not used" in text for text in notes(done)), done.err




TEXTS = {
    "control characters": "\x1b[2J\x07\r\nerror: \x9b31m",
    "a megabyte": "x" * (1 << 20),
    "right to left": "\u202e\u2066abc",
}
UNPRINTABLE = set("\x1b\x07\x9b\u202e\u2066\r\ud800")


@pytest.mark.parametrize("name", TEXTS)
def test_texts(machines: Machines, tmp_path: Path, name: str) -> None:
    """They are shown only in a form that a terminal prints, and what cannot be read as a field explains nothing."""
    text = TEXTS[name]
    inputs = (text, json.dumps({"step": text, "argv": [text], "env": [text], "kind": text}), "[]", "1", "{", "null", '{"argv": 1, "env": {}}')

    def change(index: dict[str, Any]) -> None:
        for number, record in enumerate(index["records"]):
            step = record["step"]
            record["step"] = {**step, "stage": text, "instruction": text + step["instruction"], "inputs": inputs[number]}

    cache = without(machines.cache.copy(), "wc -l")
    option = cache.write(tmp_path / "cache", cache.image_with(change))
    machine = machines.new(f"texts {name}", RECIPE.replace("wc -l", "wc  -l").replace("> out", "> out #"))
    place = f"{tmp_path}/cache"
    for arguments in (
        ["--progress=json", "--network=none", option, "--explain", machine.context],
        ["cache", "ls", place],
        ["cache", "ls", "--json", place],
        ["why"],
        ["why", "--json"],
        ["--progress=plain", "--network=none", "--no-cache", option, f"--cache-to=type=local,dest={place}", "--explain", machine.context],
        ["cache", "prune", "--max-records=4", place],
    ):
        done = machine.pybuild(*arguments)
        assert not set(done.out + done.err) & UNPRINTABLE, (arguments, done)
        assert "Traceback" not in done.err, done.err
    machine.pybuild.assert_whole()


@pytest.mark.parametrize("moment", [0, 1 << 33, 253402300799])
@pytest.mark.parametrize("epoch", ["1000", ""])
def test_times(machine: Machine, machines: Machines, tmp_path: Path, moment: int, epoch: str) -> None:
    cache = machines.cache.copy()
    for record in cache.index.records:
        cache.replace(record, replace(record, created=moment, used=moment, clamp=None if record.clamp is None else moment))
    option = cache.write(tmp_path / "cache")
    done = machine.pybuild.run("--progress=json", "--network=none", option, "-t", "app", archive(tmp_path), machine.context, SOURCE_DATE_EPOCH=epoch)
    assert "Traceback" not in done.err and done.status == 0, done.err
    machine.pybuild("history", "app")
    machine.pybuild("cache", "ls", f"{tmp_path}/cache")
    machine.pybuild.assert_whole()


def test_many_layers_that_nobody_has(machine: Machine, machines: Machines, tmp_path: Path) -> None:
    """Each costs a pass over the plan, so the cache is given up after a few."""
    cache, many = machines.cache.copy(), []
    for number in range(1500):
        first, second = (cache.record(words) for words in ("settings", LAST))
        made = [Digest.of(f"{name} {number}".encode()) for name in ("tar", "blob", "tar above", "blob above")]
        first = replace(first, layer=CachedLayer(made[0], made[1], 5, Compression.GZIP))
        many += [first, replace(second, below=first.chain, layer=CachedLayer(made[2], made[3], 5, Compression.GZIP))]
    cache.index = CacheIndex((*many, *cache.index.records))
    without(cache, "wc -l")
    done = right(machine, machines, cache.write(tmp_path / "cache"), archive(tmp_path))
    assert 10 < len(notes(done)) < 30, notes(done)  # the records that came into the store before count too
    assert any("is not used any more: 10 of its layers cannot be had" in text for text in notes(done))


FORMS: dict[str, tuple[Callable[[CacheImage], CacheImage], str]] = {
    "an index of a gigabyte": (
        lambda image: with_config(image, _member(image, zstandard.compress(b" " * (1 << 30)))),
        "exceeds the limit of 32 MiB",
    ),
    "an index that was cut off": (lambda image: with_config(image, image.config[:-100]), "config is not JSON"),
    "an index that is not one": (lambda image: with_config(image, _member(image, b"zstd")), "it is damaged"),
    "20,000 layers": (lambda image: _with_layers(image, 20_000), "limit"),
    "a foreign manifest": (lambda image: replace(image, manifest=b"{}"), "manifest"),
}


def _member(image: CacheImage, packed: bytes) -> bytes:
    return json.dumps({**json.loads(image.config), CACHE_MEMBER: base64.b64encode(packed).decode()}).encode()


def _with_layers(image: CacheImage, number: int) -> CacheImage:
    manifest, config = json.loads(image.manifest), json.loads(image.config)
    config["rootfs"]["diff_ids"] = [str(Digest.of(str(one).encode())) for one in range(number)]
    one = manifest["layers"][0]
    manifest["layers"] = [{**one, "digest": digest} for digest in config["rootfs"]["diff_ids"]]
    return with_config(replace(image, manifest=json.dumps(manifest).encode()), json.dumps(config).encode())


@pytest.mark.parametrize("form", FORMS)
def test_an_index_that_is_not_read(
    machines: Machines, registry: UploadRegistry, tmp_path: Path, form: str
) -> None:
    spoil, reason = FORMS[form]
    image = spoil(machines.cache.image())
    directory = machines.cache.write(tmp_path / "cache", image)
    for place, option in (("directory", directory), ("registry", machines.cache.serve(registry, image=image))):
        done = right(machines.new(f"{form} {place}"), machines, option)
        assert any(reason in text for text in notes(done)), notes(done)


RECORDS: dict[str, Callable[[CacheRecord], CacheRecord]] = {
    "on a base that is not there": lambda record: replace(record, below=Digest.of(b"base")),
    "on itself": lambda record: replace(record, below=record.chain),
    "on no layers": lambda record: replace(record, below=None, on_base=False),
    "with text keys only": lambda record: replace(record, keys=dict.fromkeys(record.keys, "text")),
    "with another canonical key": lambda record: replace(record, canonical="0" * 64),
    "with the canonical key of scratch": lambda record: replace(record, canonical=Digest.of(b"scratch").hex),
    "without a layer": lambda record: replace(record, layer=None, below=None, on_base=False),
    "without a layer and with another canonical key": lambda record: replace(
        record, layer=None, below=None, on_base=False, canonical="0" * 64
    ),
}


@pytest.mark.parametrize("kind", RECORDS)
def test_records_that_fit_nothing(machines: Machines, tmp_path: Path, kind: str) -> None:
    """One of the steps, another one, and all. Whatever serves gives the right image."""
    one, other = machines.cache.record("COPY src"), machines.cache.record(LAST)
    for number, some in enumerate([[one], [other], machines.cache.index.records]):
        cache = machines.cache.copy()
        cache.index = CacheIndex(tuple(RECORDS[kind](one) if one in some else one for one in cache.index.records))
        machine = machines.new(f"{kind} {number}")
        done = right(machine, machines, cache.write(tmp_path / "cache"), archive(tmp_path))
        same_archive(tmp_path, machines)
        assert notes(done) == []
