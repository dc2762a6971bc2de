"""One recipe for two platforms: the builder runs on this machine and makes both programs, the last stages only copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.peers import BuildKit
from bench.row import Contender, Row
from bench.world import PYBUILD, remove

if TYPE_CHECKING:
    from bench.world import World

_RECIPE = """FROM --platform=$BUILDPLATFORM {base} AS build
COPY source /source
RUN for arch in amd64 arm64; do tar -c /usr/lib /usr/share /source | gzip -1 | head -c 8000000 > /app.$arch; done
FROM scratch
ARG TARGETARCH
COPY --from=build /app.$TARGETARCH /app
COPY source /share
ENTRYPOINT ["/app"]
"""


def row(world: World) -> Row:
    """A build for amd64 and arm64 with no cache. The floor is the same recipe for amd64 alone."""
    store = world.store_with_debian("multi-store")
    context = world.context("multi", _RECIPE.format(base=world.debian_remote))
    (context / "source").mkdir()
    for number in range(200):
        (context / f"source/{number}").write_text(f"{number}\n" * 2000)
    out = world.directory / "multi.tar"

    def contender(name: str, platforms: str) -> Contender:
        words = (PYBUILD, *world.BUILD, "--no-cache", f"--platform={platforms}", "-o", f"type=oci,dest={out}.{name}", str(context))
        return Contender(name, words, lambda: remove(out), {"PYBUILD_ROOT": str(store)})

    contenders = [contender("pybuild", "linux/amd64,linux/arm64"), contender("floor", "linux/amd64")]
    if BuildKit.there():
        kit = BuildKit(world)
        contenders.append(kit.build(context, f"type=oci,dest={out}.buildkit", before=kit.prune))
    return Row("multi", "two platforms from one builder", tuple(contenders), aim=1.3)
