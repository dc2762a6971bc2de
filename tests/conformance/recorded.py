"""The recorded cases, and the form in which results are recorded.

A case is a directory under cases/:

* `Dockerfile`, and `context.json`: what its context holds (made afresh with fixed modes and times),
* `options.json`: build arguments and target,
* `expected.json`: what BuildKit made of it. For a recipe that builds: the config; the text of the history and which of its
  lines have a layer; the entry names of each layer; and how the flattened root differs from the base's, as
  path -> [type, mode, uid, gid, first 16 digits of the content's sha256 or link target, xattrs, mtime], null if deleted.
  An mtime is "source", "new" (when the step ran), seconds, or "-" for directories. For a recipe that does not build: the
  line that the message names, words that our message must contain, and BuildKit's own message.

record.py writes expected.json, test_cases.py compares with it.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fixtures import make_base
from tests.conformance.flatten import SOURCE_TIME, Facts, flatten, short

if TYPE_CHECKING:
    from tests.support.archive import ReadImage

CASES = Path(__file__).parent / "cases"
CONFIG_KEYS = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal", "Healthcheck", "OnBuild", "Shell",
)  # fmt: skip
# The base that the results were recorded on. Its users differ from those of the base that other tests use.
DIRECTORIES = ("bin", "dev", "etc", "home", "proc", "root", "sbin", "sys", "usr", "usr/bin", "usr/sbin", "var")
PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
    "bin:x:2:2:bin:/bin:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n"
)
GROUP = "root:x:0:\ndaemon:x:1:\nbin:x:2:\nnogroup:x:65534:\n"


def read_json(case: Path, name: str) -> Any:
    """A JSON file of a case; an empty object if the case does not have it."""
    path = case / name
    return json.loads(path.read_text()) if path.exists() else {}


class Base:
    """The base image, made of this machine's static busybox, with every applet as a hard link."""

    def __init__(self, busybox: Path) -> None:
        self._busybox = busybox
        self._binary = busybox.read_bytes()

    @property
    def names_of_contents(self) -> dict[str, str]:
        """The busybox differs from machine to machine: recorded results name it by its path in the base."""
        return {short(self._binary): "=/bin/busybox"}

    def write(self, path: Path, name: str) -> None:
        """Write an OCI archive with this name."""
        make_base.write_image(self._layer(), name, str(path))

    def _layer(self) -> bytes:
        layer = make_base.Layer()
        for name in DIRECTORIES:
            layer.add(name, tarfile.DIRTYPE)
        layer.add("tmp", tarfile.DIRTYPE, mode=0o1777)
        layer.add("bin/busybox", data=self._binary)
        listed = subprocess.run([self._busybox, "--list"], capture_output=True, text=True, check=True).stdout
        for applet in sorted(set(listed.split()) - {"busybox"}):
            layer.add(f"bin/{applet}", tarfile.LNKTYPE, link="bin/busybox")
        layer.add("etc/passwd", data=PASSWD.encode(), mode=0o644)
        layer.add("etc/group", data=GROUP.encode(), mode=0o644)
        return layer.close()


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
    """Make the directory `root`. The user who builds has to be its owner: only the owner can read some of the files."""
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


def recorded_form(image: ReadImage, base: dict[str, Facts], names_of_contents: dict[str, str]) -> dict[str, Any]:
    """An image as expected.json has it; `base` is the flattened root of the base image."""
    from_base = any(line.get("created_by") == "base" for line in image.history)
    below = base if from_base else {}
    tree = flatten(image, names_of_contents)
    changed = sorted(path for path in tree.keys() | below.keys() if tree.get(path) != below.get(path))
    config = image.config["config"]
    return {
        "author": image.config.get("author"),
        "builds": True,
        "config": {key: config[key] for key in sorted(CONFIG_KEYS) if config.get(key)},
        "files": {"/" + path: tree.get(path) for path in changed},
        "history": [
            {"created_by": line.get("created_by", ""), "empty_layer": bool(line.get("empty_layer"))}
            for line in image.history
            if line.get("created_by") != "base"
        ],
        "layers": [image.names(layer) for layer in range(1 if from_base else 0, len(image.layers))],
    }
