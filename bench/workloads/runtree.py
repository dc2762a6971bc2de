"""Steps that create, copy, delete and search many files: the cost of overlays and layers."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from bench.peers import BuildKit, ContainersStorage, buildah_archive
from bench.row import Row, floor, in_root
from bench.world import remove

if TYPE_CHECKING:
    from bench.world import World

_MAKE = "mkdir /made && cd /made && i=0 && while [ $i -lt 20000 ]; do echo $i > $i; i=$((i+1)); done"
_COPY = "cp -a /usr/share /copy && rm -r /copy/zoneinfo /copy/perl5"
_LOOK = "find / -xdev -type f -size +100k > /large"


def row(world: World) -> Row:
    """The floor runs the same commands in a chroot and writes one compressed tar of the new files."""
    recipe = f"FROM {world.debian_remote}\nRUN {_MAKE}\nRUN {_COPY}\nRUN {_LOOK}\n"
    context = world.context("runtree", recipe)
    store = world.store_with_debian("runtree-store")
    out = world.directory / "runtree.tar"
    root = world.fresh("runtree-root")
    world.setup("tar", "-x", "-C", root, "-f", world.debian_tar, "--exclude=./dev/*")
    storage = ContainersStorage(world, "runtree-buildah")
    buildah = buildah_archive(storage, context, f"{out}.buildah", "--no-cache")

    def clean() -> None:
        for name in ("made", "copy", "large"):
            remove(root / name)

    steps = " && ".join(in_root(root, command) for command in (_MAKE, _COPY, _LOOK))
    layer = f"tar -c -C {shlex.quote(str(root))} made copy large | zstd -q -3 -T0 -f -o {shlex.quote(str(out))}.floor"
    output = f"type=oci,dest={out},compression=zstd"
    contenders = [
        world.pybuild(store, *world.BUILD, "--no-cache", "-o", output, context),
        floor(f"{steps} && {layer}", clean),
        buildah,
    ]
    world.warm(buildah)
    if BuildKit.there():
        contenders.append(
            BuildKit(world).build(context, f"type=oci,dest={out}.buildkit,compression=zstd", "--no-cache")
        )
        world.warm(contenders[-1])
    return Row("runtree", "RUN that creates, copies, searches files", tuple(contenders), aim=1.8)
