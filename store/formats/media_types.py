"""The media types of images and layers, and the compression that each layer type stands for."""

from __future__ import annotations

from pybuild.store.formats.compression import Compression


class MediaType:
    """The media types that pybuild reads or writes."""

    OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
    OCI_INDEX = "application/vnd.oci.image.index.v1+json"
    OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
    OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
    OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
    OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
    DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
    DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
    DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
    DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
    DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"


INDEXES = (MediaType.OCI_INDEX, MediaType.DOCKER_INDEX)
CONFIGS = (MediaType.OCI_CONFIG, MediaType.DOCKER_CONFIG)
MANIFESTS = (MediaType.OCI_MANIFEST, MediaType.DOCKER_MANIFEST)
COMPRESSIONS = {
    MediaType.OCI_LAYER: Compression.UNCOMPRESSED,
    MediaType.OCI_LAYER_GZIP: Compression.GZIP,
    MediaType.OCI_LAYER_ZSTD: Compression.ZSTD,
    MediaType.DOCKER_LAYER: Compression.UNCOMPRESSED,
    MediaType.DOCKER_LAYER_GZIP: Compression.GZIP,
    MediaType.DOCKER_LAYER_ZSTD: Compression.ZSTD,
}
DOCKER_LAYER_TYPES = {  # docker has no type for zstd that other tools read
    Compression.UNCOMPRESSED: MediaType.DOCKER_LAYER,
    Compression.GZIP: MediaType.DOCKER_LAYER_GZIP,
}
LAYER_TYPES = {  # the types that pybuild writes unless it is asked for docker's
    Compression.UNCOMPRESSED: MediaType.OCI_LAYER,
    Compression.GZIP: MediaType.OCI_LAYER_GZIP,
    Compression.ZSTD: MediaType.OCI_LAYER_ZSTD,
}
