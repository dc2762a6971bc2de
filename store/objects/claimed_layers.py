"""Layers that are known only by their blobs and by what an image claims about them: those that no build has read yet."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from pybuild.store.formats.media_types import COMPRESSIONS
from pybuild.store.formats.oci_config import chain_id
from pybuild.store.objects.changesets import LayerBlob

if TYPE_CHECKING:
    from pybuild.store.formats.digest import Digest
    from pybuild.store.formats.oci_config import ImageConfig
    from pybuild.store.formats.oci_manifest import Manifest
    from pybuild.store.objects.changesets import Changesets
    from pybuild.store.objects.database import Metadata
    from pybuild.store.objects.snapshots import Snapshots


def stack_layers(
    metadata: Metadata, changesets: Changesets, snapshots: Snapshots, manifest: Manifest, config: ImageConfig
) -> int | None:
    """The layers of an image as snapshots: verified ones if the store has read them before, else as this image claims.

    Returns the topmost snapshot; None if the image has no layers.
    """
    snapshot = chain = None
    claimed = ""
    for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
        chain = chain_id((diff_id,) if chain is None else (chain, diff_id))
        claimed = _claim(claimed, layer.digest, diff_id)
        candidates = (snapshots.by_chain(name) for name in (chain, claimed))
        known = next((c for c in candidates if c is not None and snapshots.parent(c) == snapshot), None)
        if known is None:
            blob = LayerBlob(diff_id, layer.digest, layer.size, COMPRESSIONS[layer.media_type])
            with metadata.transaction():
                added = snapshots.add(snapshot, changesets.add_claimed(blob))
                known = snapshots.set_chain(claimed, added)
        snapshot = known
    return snapshot


def stack_claimed(
    changesets: Changesets,
    snapshots: Snapshots,
    below: int | None,
    chain: Digest,
    blob: LayerBlob,
    clamp: int | None,
) -> int:
    """A layer on a snapshot, as a cache claims it to be: the one that the store has if it knows the layer there.

    `chain` is the chain ID of the result, `clamp` the newest time in the layer if that is known. The caller has begun a
    transaction, in which the layer gets a place.
    """
    verified = snapshots.by_chain(chain)
    if verified is not None and snapshots.parent(verified) == below:
        return verified
    known = snapshots.with_layer(below, blob.diff_id, blob.digest)
    return snapshots.add(below, changesets.add_claimed(blob, clamp)) if known is None else known


def _claim(below: str, digest: Digest, diff_id: Digest) -> str:
    """A name for layers known only by their blobs and by what an image claims about them."""
    text = json.dumps([below, str(digest), str(diff_id)])
    return "claim:" + hashlib.sha256(text.encode("ascii")).hexdigest()
