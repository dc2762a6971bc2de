"""The most frequent build: two stages on Debian, nothing has changed, and the archive is written again."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

from bench.peers import BuildKit, ContainersStorage, buildah_archive
from bench.row import Row, floor

if TYPE_CHECKING:
    from bench.world import World

_RECIPE = """\
FROM {base} AS builder
WORKDIR /src
COPY page .
RUN tr a-z A-Z < page > PAGE
FROM {base}
ENV PORT=80
COPY --from=builder /src/PAGE /srv/page
RUN chmod 400 /srv/page
CMD ["cat", "/srv/page"]
"""


def row(world: World) -> Row:
    """The floor starts an interpreter that imports a command line library and sqlite3, and copies the archive."""
    context = world.context("noop", _RECIPE.format(base=world.debian_remote), page="a page\n")
    store = world.store_with_debian("noop-store")
    out = world.directory / "noop.tar"
    pybuild = world.pybuild(store, *world.BUILD, "-o", f"type=oci,dest={out},compression=zstd", context)
    world.warm(pybuild)
    copy = shlex.join(["cp", f"{out}", f"{out}.copy"])
    contenders = [pybuild, floor(f"{shlex.quote(sys.executable)} -c 'import sqlite3, json, click' && {copy}")]
    storage = ContainersStorage(world, "noop-buildah")
    contenders.append(buildah_archive(storage, context, world.directory / "noop-buildah.tar"))
    if BuildKit.there():
        kit = BuildKit(world)
        contenders.append(kit.build(context, f"type=oci,dest={out}.buildkit,compression=zstd"))
    for peer in contenders[2:]:
        world.warm(peer)
    return Row("noop", "all cached, two stages on Debian, zstd", tuple(contenders), aim=1.9, buildkit_aim=0.4)
