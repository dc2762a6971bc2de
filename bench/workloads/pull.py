"""Pull Debian from a registry on this machine into an empty store: all bytes are checked, nothing is unpacked."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from bench.images import layer_digest
from bench.row import Contender, Row, floor
from bench.world import remove

if TYPE_CHECKING:
    from bench.world import World


def row(world: World) -> Row:
    """skopeo does the same work: it writes the unchanged blobs to an OCI layout."""
    name = world.debian_remote
    store, layout, blob = (world.directory / part for part in ("pull-store", "pull-layout", "pull-blob"))
    skopeo = ("skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", f"docker://{name}")
    return Row(
        "pull",
        "pull a Debian of 70 MB",
        (
            world.pybuild(store, "pull", "-q", name, before=lambda: remove(store)),
            floor(f"{download(world)} | tee {shlex.quote(str(blob))} | sha256sum"),
            Contender("skopeo", (*skopeo, f"oci:{layout}:debian"), before=lambda: remove(layout)),
        ),
    )


def download(world: World) -> str:
    """The shell command that writes the layer to its standard output."""
    host, _, path = world.debian_remote.partition("/")
    repository = path.partition(":")[0]
    return f"curl -sSf http://{host}/v2/{repository}/blobs/{layer_digest(world.debian_archive)}"
