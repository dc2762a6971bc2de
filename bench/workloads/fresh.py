"""A new machine builds what another one has built, from a cache in a registry behind a slow line, and pushes it.

Machine A has built the recipe, and has written its cache and its image. Machine B has an empty store, and a checkout in
which all times differ. Each run pushes to a name that is new to the registry.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import subprocess
from typing import TYPE_CHECKING

from bench.peers import BuildKit
from bench.row import Row, floor
from bench.slow_registry import SlowRegistry
from bench.world import PYBUILD, remove

if TYPE_CHECKING:
    from pathlib import Path

    from bench.row import Contender
    from bench.world import World

_RECIPE = """\
FROM {base} AS build
WORKDIR /src
COPY requirements.txt .
RUN perl -e 'srand(18); print pack("N*", map {{ rand(2**32) }} 1..1024) for 1..2560' > library
COPY app app
RUN --mount=type=bind,source=tools,target=/tools sh /tools/build.sh
FROM {base}
RUN echo app:x:999: >> /etc/group
WORKDIR /srv
COPY --chown=www-data static static
COPY --from=build /out app
RUN {last}
CMD ["/srv/app/start"]
"""
_LAST = "ls -lR /srv > list"
_CHANGED = f"{_LAST}.2"
_FILES = {"app": 200, "static": 50, "tools": 3}  # how many files of some kilobytes each directory has
_BUILD = "set -e\nmkdir /out\ncp -r /src/library /src/app /out\necho exec true > /out/start\nchmod +x /out/start\n"
_DECOMPRESS = {"gzip": "igzip -d -c -", "zstd": "zstd -d -c"}
_METADATA = 100_000  # bytes that manifests, configs and questions may have


def unchanged(world: World) -> Row:
    """Everything is in the cache: no step runs, and no layer moves."""
    bench = _Bench(world, "fresh", _LAST)
    return Row(
        "fresh",
        "build and push on a new machine, all cached",
        bench.contenders(),
        limit=1.0,
        buildkit_aim=1.3,
        traffic=bench.registry,
        bytes_aim=_METADATA,
        chain_aim=12,
    )


def changed(world: World) -> Row:
    """The last RUN differs: the layers that it stands on move. The floor gets and unpacks them side by side."""
    bench = _Bench(world, "fresh-run", _CHANGED)
    below = bench.layers()[:-1]
    trees = world.directory / "fresh-run-trees"
    blobs = f"http://{bench.registry.host}/v2/{bench.path('')}/blobs"
    script = "jobs=()\n"
    for number, layer in enumerate(below):
        tree = trees / str(number)
        command = _DECOMPRESS[str(layer["mediaType"]).rpartition("+")[2]]
        unpack = f"curl -sSf {blobs}/{layer['digest']} | {command} | tar -x -C {shlex.quote(str(tree))}"
        script += f"mkdir {shlex.quote(str(tree))}; {{ {unpack}; }} & jobs+=($!)\n"
    script += 'for job in "${jobs[@]}"; do wait $job; done\n'

    def empty() -> None:
        remove(trees)
        trees.mkdir()

    return Row(
        "fresh-run",
        "the same, its last RUN changed",
        (*bench.contenders(), floor(script, empty)),
        aim=2.0,
        buildkit_aim=0.6,
        traffic=bench.registry,
        bytes_aim=sum(int(str(layer["size"])) for layer in below) + _METADATA,
    )


class _Bench:
    """A registry with the base, and with what machine A has written: an image `:1` and a cache, for each contender."""

    def __init__(self, world: World, name: str, last: str) -> None:
        self._world, self._name, self._last = world, name, last
        self.registry = SlowRegistry(world, name)
        self.registry.registry.push(world.debian_archive, "bench/debian:bookworm")
        self._checkouts = 0
        self._context = world.directory / f"{name}-b" / "checkout"
        first = world.directory / f"{name}-a"
        self._check_out(first, _LAST)
        cache = f"type=registry,ref={self._image('')}:cache,mode=max,ignore-error=false"
        store = world.fresh(f"{name}-store-a")
        world.setup(
            *(PYBUILD, *world.BUILD, "--cache-to", cache, "-t", f"{self._image('')}:1", "--push", first),
            PYBUILD_ROOT=str(store),
        )
        self._kit = BuildKit(world, self.registry.host) if world.peers and BuildKit.there() else None
        if self._kit is not None:
            target = f"type=image,name={self._image('-buildkit')}:1,push=true"
            cache = f"--export-cache=type=registry,ref={self._image('-buildkit')}:cache,mode=max"
            world.warm(self._kit.build(first, target, cache))
        self.registry.keep()

    def contenders(self) -> tuple[Contender, ...]:
        """Machine B."""
        store = self._world.directory / f"{self._name}-store-b"
        image = self._image("")

        def before() -> None:
            remove(store)
            self._renew()

        options = ("--cache-from", f"type=registry,ref={image}:cache", "-t", f"{image}:2", "--push")
        ours = self._world.pybuild(store, *self._world.BUILD, *options, self._context, before=before)
        if self._kit is None:
            return (ours,)
        kit = self._kit

        def before_buildkit() -> None:
            kit.prune()
            self._renew()

        cache = f"--import-cache=type=registry,ref={self._image('-buildkit')}:cache"
        target = f"type=image,name={self._image('-buildkit')}:2,push=true"
        return ours, kit.build(self._context, target, cache, before=before_buildkit)

    def path(self, contender: str) -> str:
        """The repository of image and cache of a contender."""
        return f"bench/{self._name}{contender}"

    def layers(self) -> list[dict[str, object]]:
        """The descriptors of the layers of machine A's image."""
        image = f"docker://{self.registry.registry.host}/{self.path('')}:1"
        command = ("skopeo", "inspect", "--raw", "--tls-verify=false", image)
        found: list[dict[str, object]] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["layers"]
        return found

    def _image(self, contender: str) -> str:
        return f"{self.registry.host}/{self.path(contender)}"

    def _renew(self) -> None:
        self.registry.restore()
        self._check_out(self._context, self._last)

    def _check_out(self, context: Path, last: str) -> None:
        """Write the same files anew; only the times differ each time, and the last RUN if it is another."""
        remove(context)
        self._checkouts += 1
        numbers = random.Random(18)
        files = {"Buildfile": _RECIPE.format(base=f"{self.registry.host}/bench/debian:bookworm", last=last)}
        files["requirements.txt"] = "click>=8\n"
        for directory, count in _FILES.items():
            for number in range(count):
                files[f"{directory}/{number}.txt"] = numbers.randbytes(numbers.randrange(500, 4000)).hex()
        files["tools/build.sh"] = _BUILD
        for number, (name, content) in enumerate(files.items()):
            path = context / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            time = 1_600_000_000 + 1_000_000 * self._checkouts + number
            os.utime(path, (time, time))
        for directory in _FILES:
            os.utime(context / directory, (time, time))
