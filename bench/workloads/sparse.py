"""RUN that leaves a sparse file of 5 GiB: its layer is nearly all zeros, which are hashed twice and compressed."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from bench.peers import BuildKit, ContainersStorage, buildah_archive
from bench.row import Row, floor

if TYPE_CHECKING:
    from bench.world import World

_SIZE = "5G"


def row(world: World) -> Row:
    """The floor hashes the file twice and compresses it, side by side; the zeros come from the kernel."""
    context = world.context("sparse", f"FROM {world.debian_remote}\nRUN truncate -s {_SIZE} /file\n")
    store = world.store_with_debian("sparse-store")
    out = world.directory / "sparse.tar"
    storage = ContainersStorage(world, "sparse-buildah")
    buildah = buildah_archive(storage, context, f"{out}.buildah", "--no-cache")
    file = shlex.quote(f"{out}.file")
    hashes = f"openssl dgst -sha256 {file} & openssl dgst -sha256 {file} & igzip -2 -c {file} > {file}.gz; wait"
    contenders = [
        world.pybuild(store, *world.BUILD, "--no-cache", "-o", f"type=oci,dest={out}", context),
        floor(f"truncate -s {_SIZE} {file}; {hashes}"),
        buildah,
    ]
    world.warm(buildah)
    if BuildKit.there():
        contenders.append(BuildKit(world).build(context, f"type=oci,dest={out}.buildkit", "--no-cache"))
        world.warm(contenders[-1])
    return Row("sparse", f"RUN that leaves a sparse file of {_SIZE}", tuple(contenders), aim=1.0)
