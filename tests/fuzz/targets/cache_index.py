"""The index of a cache of another machine: JSON, in the config of an image with two layers."""

from __future__ import annotations

import base64

import zstandard

from pybuild.store.errors import StoreError
from pybuild.store.formats.bounded_json import dump
from pybuild.store.formats.cache_image import KIND, KIND_ANNOTATION, cache_image, carried_index
from pybuild.store.formats.cache_index import CacheIndex
from pybuild.store.formats.cache_merge import merged
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.oci_config import CACHE_MEMBER, ExecConfig, ImageConfig
from pybuild.store.formats.oci_manifest import Descriptor, Manifest
from pybuild.store.formats.platform import Platform
from tests.fuzz.target import FuzzTarget, check_refusal

PLATFORM = Platform("linux", "amd64")
LAYERS = tuple(Descriptor(MediaType.OCI_LAYER_GZIP, Digest.of(name), len(name)) for name in (b"lower", b"upper"))
DIFF_IDS = (Digest.of(b"lower tar"), Digest.of(b"upper tar"))
MANIFEST = Manifest(Descriptor(MediaType.OCI_CONFIG, Digest.of(b"{}"), 2), LAYERS, annotations={KIND_ANNOTATION: KIND})


def read(data: bytes) -> bool:
    """What is read is written, and read again as the same value; a merge keeps no record without those below it."""
    member = base64.b64encode(zstandard.compress(data)).decode()
    config = ImageConfig("amd64", "linux", "", None, "", ExecConfig(), DIFF_IDS, (), {CACHE_MEMBER: member})
    try:
        index = carried_index(MANIFEST, dump({**_fields(config)}))
    except StoreError as error:
        return check_refusal(error)
    image = cache_image(index, PLATFORM)
    assert carried_index(Manifest.from_bytes(image.manifest), image.config) == index
    assert cache_image(index, PLATFORM).digest == image.digest
    whole = merged(CacheIndex(), index, most=1000)
    assert merged(whole, whole, most=1000) == whole
    for most in (0, 1, 2):
        few = merged(index, CacheIndex(), most=most, most_bytes=7)
        chains = {record.chain for record in few.records}
        layers = CacheIndex(few.records, mounts=few.mounts).layers  # tables of contents do not count
        assert len(few.records) <= most and sum(layer.size for layer in layers) <= 7
        assert all(one.layer is None or one.on_base or one.below is None or one.below in chains for one in few.records)
    return True


def _fields(config: ImageConfig) -> dict[str, object]:
    diff_ids = [str(digest) for digest in config.diff_ids]
    return {"os": config.os, "rootfs": {"type": "layers", "diff_ids": diff_ids}, **config.extra}


KEY = b"0a" * 32
BELOW = str(DIFF_IDS[0]).encode()
STEP = b'"step":{"stage":"app","number":2,"instruction":"RUN make","inputs":"{}"}'
TIMES = b'"created":1700000000,"used":1700000001'
TARGET = FuzzTarget(
    read,
    seeds=(
        b'{"version":1,"records":[]}',
        b'{"version":1,"records":[{"keys":{"' + KEY + b'":"content"},"canonical":"' + KEY + b'",' + TIMES + b"," + STEP + b"}]}",
        b'{"version":1,"records":[{"keys":{},"canonical":"' + KEY + b'",' + TIMES + b',"layer":0,"parent":"base:","clamp":5,'
        + STEP + b'},{"keys":{"' + KEY + b'":"text"},"canonical":"' + KEY + b'",' + TIMES + b',"layer":1,"parent":"' + BELOW
        + b'","clamp":null,' + STEP + b"}]}",
        b'{"version":1,"records":[{"keys":{},"canonical":"' + KEY + b'",' + TIMES + b',"layer":0,"parent":"",' + STEP
        + b'}],"tables":[{"chain":"' + BELOW + b'","parent":"","layer":1}]}',
        b'{"version":1,"records":[],"mounts":[{"key":"' + KEY + b'","name":"pip","layer":0,"saved":1,"used":2,"secret":false},{"key":"'
        + BELOW[7:] + b'","name":"npm","layer":1,"saved":1,"used":1700000001,"secret":true}]}',
    ),
    words=(
        b'"version":1', b'"records":', b'"mounts":', b'"saved":', b'"secret":', b'"keys":', b'"canonical":', b'"layer":1', b'"parent":"base:', b'"parent":""', BELOW, KEY,
        b'"clamp":', b'"tables":', b'"chain":', b'"definition"', b'"content"', b'"text"', b'"inputs":', b'"instruction":', b"null", b"1e9", b"-1", b"\\ud800",
    ),
)  # fmt: skip
