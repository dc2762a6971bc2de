"""A recipe of metadata only, pushed to the registry that has its base: what has to cross the network?"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from bench.peers import BuildKit, ContainersStorage, buildah_build
from bench.row import Row, shell
from bench.world import remove

if TYPE_CHECKING:
    from bench.world import World

_REPOSITORY = "bench/lazy"


def row(world: World) -> Row:
    """All layers are in the registry, so a manifest and a config would do. There is no floor: bytes count, not seconds."""
    traffic = world.traffic
    base = f"{traffic.host}/{world.debian_remote.partition('/')[2]}"
    target = f"{traffic.host}/{_REPOSITORY}:1"
    context = world.context("lazy", f'FROM {base}\nLABEL org.opencontainers.image.title="lazy"\n')
    store = world.directory / "lazy-store"
    storage = ContainersStorage(world, "lazy-buildah")

    def forget() -> None:
        """Remove the repository that the run before has pushed to. The layers stay in that of the base."""
        remove(world.directory / "registry/data/docker/registry/v2/repositories" / _REPOSITORY)

    def empty() -> None:
        forget()
        remove(store)

    def reset() -> None:
        forget()
        storage.reset()

    build = buildah_build(storage, context, "--tls-verify=false", "--pull-always", "-t", "bench.test/lazy")
    push = storage.buildah("push", "-q", "--tls-verify=false", "bench.test/lazy", f"docker://{target}")
    contenders = [
        world.pybuild(store, *world.BUILD, "-t", target, "--push", context, before=empty),
        shell("buildah", f"{shlex.join(build)} && {shlex.join(push)}", reset),
    ]
    if BuildKit.there():
        kit = BuildKit(world, traffic.host)

        def prune() -> None:
            forget()
            kit.prune()

        contenders.append(kit.build(context, f"type=image,name={target},push=true", before=prune))
    return Row("lazy", "FROM, LABEL, push to the same registry", tuple(contenders), traffic=traffic, bytes_aim=20_000)
