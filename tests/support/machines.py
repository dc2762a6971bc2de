"""Several machines that build one recipe: each has an empty store, and a checkout with file times of its own."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import tarfile
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import zstandard

from tests.support.cli import Done, Pybuild, write_context

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RECIPE = """\
FROM {base} AS builder
WORKDIR /w
COPY src/ src/
RUN --mount=type=bind,source=settings,target=/settings cat /settings src/a src/sub/b > out
ARG FLAVOUR=plain
RUN echo $FLAVOUR >> out
FROM {base}
COPY passwd /etc/passwd
COPY --chown=www-data settings /srv/settings
COPY --from=builder /w/out /out
RUN wc -l /out > /lines
ENV A=1
"""
FILES = {
    "src__a": "a\n",
    "src__sub__b": "b\n",
    "settings": "s\n",
    "passwd": "root:x:0:0::/:/bin/sh\nwww-data:x:33:33::/:/bin/sh\n",
}
STEPS = 8  # that leave a layer, with the bind mount's
_times = count(1_500_000_000, 1000)


@dataclass(frozen=True)
class Machine:
    """A machine with its store and its checkout."""

    pybuild: Pybuild
    context: Path

    def build(self, *options: str) -> Done:
        return self.pybuild("--progress=json", "--network=none", *options, self.context)

    def ran(self, done: Done) -> list[str]:
        """The steps that a build ran."""
        return [instruction for instruction, cached in done.finished().items() if not cached]


def checkout(directory: Path, base: str, recipe: str = RECIPE, **files: str) -> Path:
    """A checkout of the recipe; all of its files have times that no other checkout has."""
    if directory.exists():
        shutil.rmtree(directory)
    write_context(directory, recipe.format(base=base), **{**FILES, **files})
    for path in sorted(directory.rglob("*")):
        moment = next(_times)
        os.utime(path, (moment, moment))
    return directory


def fetched_layers(done: Done) -> list[Mapping[str, object]]:
    """The events that tell of layers that came in."""
    return [event for event in done.events if event["event"] == "transfer" and event["kind"] == "fetched"]


def swap_tables(cache: Path, one: str, other: str) -> None:
    """Change a cache in a directory: the table of one step's layer is that of another step's, and the other way round.

    The steps are given by the beginning of their instruction.
    """
    blobs = cache / "blobs" / "sha256"
    index = json.loads((cache / "index.json").read_bytes())
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_bytes())
    config = json.loads((blobs / manifest["config"]["digest"][7:]).read_bytes())
    records = json.loads(zstandard.decompress(base64.b64decode(config["pybuild.cache"]), 1 << 24))
    position = records["tables"][-1]["layer"]
    chains = [_chain(records, config["rootfs"]["diff_ids"], start) for start in (one, other)]
    pack = zstandard.decompress((blobs / manifest["layers"][position]["digest"][7:]).read_bytes(), 1 << 24)
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(pack)) as before, tarfile.open(fileobj=out, mode="w") as after:
        for member in before:
            content = before.extractfile(member)
            if member.name in chains:
                member.name = chains[not chains.index(member.name)]
            after.addfile(member, content)
    layer = zstandard.compress(out.getvalue())
    manifest["layers"][position] |= {"digest": _put(blobs, layer), "size": len(layer)}
    config["rootfs"]["diff_ids"][position] = "sha256:" + hashlib.sha256(out.getvalue()).hexdigest()
    data = json.dumps(config).encode()
    manifest["config"] |= {"digest": _put(blobs, data), "size": len(data)}
    data = json.dumps(manifest).encode()
    index["manifests"][0] |= {"digest": _put(blobs, data), "size": len(data)}
    (cache / "index.json").write_text(json.dumps(index))


def _chain(records: Mapping[str, Any], diff_ids: list[str], start: str) -> str:
    """The chain ID, in hexadecimal, of the layer that the step with this text made."""
    (record,) = (one for one in records["records"] if one["step"]["instruction"].startswith(start))
    below = record["parent"].removeprefix("base:")
    diff_id = diff_ids[record["layer"]]
    return hashlib.sha256(f"{below} {diff_id}".encode()).hexdigest() if below else diff_id[7:]


def _put(blobs: Path, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return f"sha256:{digest}"
