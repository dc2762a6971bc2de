"""The recorded cases: for each recipe under cases/, what BuildKit made of it, and that we make the same.

A case is a directory:

* `Dockerfile`, and `context.json`: what its context holds (made afresh with fixed modes and times),
* `options.json`: build arguments and target,
* `expected.json`: whether it builds; the config; the history's text and which lines have a layer; each layer's entry
  names; and how the flattened root differs from the base's, as path -> [type, mode, uid, gid, first 16 digits of the
  content's sha256 or link target, xattrs, mtime], null where deleted. An mtime is "source", "new" (when the step
  ran), seconds, or "-" for directories. For a recipe that must not build: the line that the message names, and words
  that it contains.

All of them are built by root, and by an ordinary user with subordinate ids. What root builds is built again on the same
store: same digest, and every step from the cache.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fixtures import make_base
from tests.conformance.flatten import SOURCE_TIME, Facts, flatten, short
from tests.support.archive import ReadImage, read_archive
from tests.support.cli import BASE, Done
from tests.support.people import Person, forget, make_person

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES = Path(__file__).parent / "cases"
NAMES = sorted(path.name for path in CASES.iterdir())
CONFIG_KEYS = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal", "Healthcheck", "OnBuild", "Shell",
)  # fmt: skip
# The base that the results were recorded on; other users than those of the base that the other tests stand on.
DIRECTORIES = ("bin", "dev", "etc", "home", "proc", "root", "sbin", "sys", "usr", "usr/bin", "usr/sbin", "var")
PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
    "bin:x:2:2:bin:/bin:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n"
)
GROUP = "root:x:0:\ndaemon:x:1:\nbin:x:2:\nnogroup:x:65534:\n"


class Bench:
    """Somebody's store with the recorded base, shared by the cases, and what is needed to compare with it."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.pybuild = person.pybuild()
        busybox = make_base.static_busybox()
        assert busybox is not None, "make tools installs busybox-static"
        binary = Path(busybox).read_bytes()
        # Programs differ from machine to machine; the recorded results name them by their path in the base.
        self.known = {short(binary): "=/bin/busybox"}
        archive = person.home / "base.tar"
        make_base.write_image(self._layer(busybox, binary), f"{BASE}:latest", str(archive))
        self.pybuild("import", archive)
        self.base = flatten(read_archive(archive), self.known)

    @staticmethod
    def _layer(busybox: str, binary: bytes) -> bytes:
        layer = make_base.Layer()
        for name in DIRECTORIES:
            layer.add(name, tarfile.DIRTYPE)
        layer.add("tmp", tarfile.DIRTYPE, mode=0o1777)
        layer.add("bin/busybox", data=binary)
        applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
        for applet in sorted(set(applets) - {"busybox"}):
            layer.add(f"bin/{applet}", tarfile.LNKTYPE, link="bin/busybox")
        layer.add("etc/passwd", data=PASSWD.encode(), mode=0o644)
        layer.add("etc/group", data=GROUP.encode(), mode=0o644)
        return layer.close()


@pytest.fixture(scope="module", params=["root", "range"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    person = make_person(request.param)
    yield Bench(person)
    forget(person)


def read_json(case: str, name: str) -> Any:
    path = CASES / case / name
    return json.loads(path.read_text()) if path.exists() else {}


def sample_archive(kind: str) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, data, mode, owner in (("in/f", b"tarred\n", 0o640, 3), ("in/g", b"g\n", 0o755, 0)):
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.uid, info.gid, info.mtime = len(data), mode, owner, owner, SOURCE_TIME
            tar.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo("in/l")
        info.type, info.linkname, info.mtime = tarfile.SYMTYPE, "f", SOURCE_TIME
        tar.addfile(info)
    match kind:
        case "gz":
            return gzip.compress(raw.getvalue(), mtime=0)
        case "xz":
            return lzma.compress(raw.getvalue())
        case _:
            return raw.getvalue()


def make_context(held: dict[str, dict[str, Any]], root: Path, owner: int) -> None:
    """Whoever builds owns it: some of the files are for nobody else to read."""
    root.mkdir()
    for name, what in held.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if "link" in what:
            path.symlink_to(what["link"])
        elif what.get("dir"):
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(sample_archive(what["archive"]) if "archive" in what else what["text"].encode())
            os.chown(path, owner, owner)  # before the mode: it takes setuid away
            path.chmod(int(what.get("mode", "0o644"), 8))
    for path in sorted(root.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
        os.utime(path, (SOURCE_TIME, SOURCE_TIME), follow_symlinks=False)


class Case:
    """A case made ready to be built."""

    def __init__(self, name: str, bench: Bench) -> None:
        directory = bench.person.home / name
        directory.mkdir()
        os.chown(directory, bench.person.uid, bench.person.uid)
        self._directory = directory
        self._pybuild = bench.pybuild
        self.recipe = directory / "Dockerfile"
        make_context(read_json(name, "context.json"), directory / "context", bench.person.uid)
        shutil.copy(CASES / name / "Dockerfile", self.recipe)
        ignored = directory / "context/Dockerfile.dockerignore"
        if ignored.exists():  # it belongs beside the recipe
            shutil.copy(ignored, directory)
        options = read_json(name, "options.json")
        self._flags = [f"--build-arg={key}={value}" for key, value in options.get("args", {}).items()]
        self._flags += [f"--target={options['target']}"] if "target" in options else []

    def build(self, out: str, *more: str) -> Done:
        output = f"type=oci,dest={self.archive(out)}"
        return self._pybuild.run("-f", self.recipe, *self._flags, *more, "-o", output, self._directory / "context")

    def archive(self, out: str) -> Path:
        return self._directory / out

    def result(self, out: str) -> ReadImage:
        return read_archive(self.archive(out))


def changes(image: ReadImage, bench: Bench) -> dict[str, Facts | None]:
    """How the image's root differs from the base's, or from nothing where it is not built on the base."""
    below = bench.base if any(line.get("created_by") == "base" for line in image.history) else {}
    tree = flatten(image, bench.known)
    return {"/" + path: tree.get(path) for path in tree.keys() | below.keys() if tree.get(path) != below.get(path)}


def own_history(image: ReadImage) -> list[dict[str, object]]:
    return [
        {"created_by": line.get("created_by", ""), "empty_layer": bool(line.get("empty_layer"))}
        for line in image.history
        if line.get("created_by") != "base"
    ]


BUILDS = [name for name in NAMES if read_json(name, "expected.json")["builds"]]
FAILS = [name for name in NAMES if not read_json(name, "expected.json")["builds"]]


def test_all_cases_are_run() -> None:
    assert len(NAMES) == 82
    assert sorted([*BUILDS, *FAILS]) == NAMES


@pytest.mark.parametrize("name", BUILDS)
def test_a_recipe_gives_the_recorded_image(name: str, bench: Bench) -> None:
    expected = read_json(name, "expected.json")
    case = Case(name, bench)
    done = case.build("out.tar")
    assert done.status == 0, done.err
    image = case.result("out.tar")
    assert changes(image, bench) == expected["files"]
    config = image.config["config"]
    assert {key: config[key] for key in CONFIG_KEYS if config.get(key)} == expected["config"]
    assert image.config.get("author") == expected["author"]
    assert own_history(image) == expected["history"]
    count = len(expected["layers"])
    first = len(image.layers) - count
    assert [image.names(layer) for layer in range(first, len(image.layers))] == expected["layers"]
    if bench.person.name == "root":
        assert_again_from_the_cache(case, image, count)


def assert_again_from_the_cache(case: Case, image: ReadImage, layers: int) -> None:
    again = case.build("again.tar", "--progress=json")
    assert again.status == 0, again.err
    assert case.result("again.tar").digest == image.digest
    assert all(again.finished().values()), again.finished()
    assert again.finished() or not layers, "steps that leave a layer are reported"


@pytest.mark.parametrize("name", FAILS)
def test_a_recipe_that_must_not_build_is_refused_for_the_recorded_reason(name: str, bench: Bench) -> None:
    error = read_json(name, "expected.json").get("error", {})
    case = Case(name, bench)
    done = case.build("out.tar")
    assert done.status == 1, done.err
    assert "Traceback" not in done.err
    assert not case.archive("out.tar").exists()
    if error.get("line"):
        assert f":{error['line']}:" in done.err
    for words in error.get("contains", []):
        assert words.lower() in done.err.lower()
