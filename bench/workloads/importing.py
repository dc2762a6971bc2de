"""Import Debian from an OCI archive into an empty store."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from bench.images import layer_digest
from bench.peers import ContainersStorage
from bench.row import Contender, Row, floor
from bench.world import remove

if TYPE_CHECKING:
    from bench.world import World


def row(world: World) -> Row:
    """pybuild indexes the layer (table of contents), "skopeo to oci" only copies blobs, the others unpack them."""
    archive = world.debian_archive
    store, layout, blob = (world.directory / part for part in ("import-store", "import-layout", "import-blob"))
    storage = ContainersStorage(world, "import-storage")
    skopeo = ("skopeo", "--insecure-policy", "copy", "-q", f"oci-archive:{archive}")
    member = layer_digest(archive).replace("sha256:", "blobs/sha256/")
    read = f"tar -xOf {shlex.quote(str(archive))} {member}"
    return Row(
        "import",
        "import it from an OCI archive",
        (
            world.pybuild(store, "import", archive, before=lambda: remove(store)),
            floor(f"{read} | tee {shlex.quote(str(blob))} >(sha256sum >&2) | igzip -d -c - | sha256sum"),
            Contender("skopeo to oci", (*skopeo, f"oci:{layout}:debian"), before=lambda: remove(layout)),
            Contender("skopeo to storage", (*skopeo, f"{storage.target}debian:bookworm"), before=storage.reset),
            Contender("podman", storage.podman("pull", "-q", f"oci-archive:{archive}"), before=storage.reset),
        ),
    )
