"""The media types of layers, and the compression that each stands for."""

from __future__ import annotations

from pybuild.store.formats.compression import Compression
from pybuild.store.formats.oci import MediaType

COMPRESSIONS = {
    MediaType.OCI_LAYER: Compression.UNCOMPRESSED,
    MediaType.OCI_LAYER_GZIP: Compression.GZIP,
    MediaType.OCI_LAYER_ZSTD: Compression.ZSTD,
    MediaType.DOCKER_LAYER: Compression.UNCOMPRESSED,
    MediaType.DOCKER_LAYER_GZIP: Compression.GZIP,
}
LAYER_TYPES = {  # of the layers that are written here
    Compression.UNCOMPRESSED: MediaType.OCI_LAYER,
    Compression.GZIP: MediaType.OCI_LAYER_GZIP,
    Compression.ZSTD: MediaType.OCI_LAYER_ZSTD,
}
