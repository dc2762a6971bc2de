"""Image manifests, indexes and descriptors, and their JSON.

The values are frozen. Unknown members are kept in `extra` and written back. Docker's media types are read like OCI's.
Source: OCI image-spec 1.1, descriptor.md, manifest.md and image-index.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from pybuild.store.errors import InvalidImage, NotFound
from pybuild.store.formats.bounded_json import Fields, Json, dump, load_object
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import MediaType
from pybuild.store.formats.platform import Platform
from pybuild.values import frozen
from pybuild.values.limits import IMAGE_LAYERS, MANIFEST_BYTES

_MAX_SIZE = (1 << 63) - 1


@frozen
class Descriptor:
    """A reference to a blob. `urls` stay in `extra` and are never fetched, because the image could be hostile."""

    media_type: str
    digest: Digest
    size: int  # bytes
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    extra: Mapping[str, Json] = field(default_factory=dict)

    @staticmethod
    def read(fields: Fields) -> Descriptor:
        """Read from JSON. Raises InvalidImage."""
        platform = None
        if fields.data.get("platform") is not None:
            found = fields.object("platform")
            platform = Platform(
                found.text("os", ""), found.text("architecture", ""), found.text("variant", ""),
                found.text("os.version", ""), found.texts("os.features"),
            )  # fmt: skip
        return Descriptor(
            fields.text("mediaType", ""),
            Digest.parse(fields.text("digest")),
            fields.integer("size", _MAX_SIZE),
            fields.mapping("annotations"),
            platform,
            fields.others(_DESCRIPTOR_MEMBERS),
        )

    def to_json(self) -> dict[str, Json]:
        """The JSON members in the order of the spec."""
        data: dict[str, Json] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.annotations:
            data["annotations"] = dict(self.annotations)
        if self.platform is not None:
            platform: dict[str, Json] = {"architecture": self.platform.architecture, "os": self.platform.os}
            if self.platform.os_version:
                platform["os.version"] = self.platform.os_version
            if self.platform.os_features:
                platform["os.features"] = list(self.platform.os_features)
            if self.platform.variant:
                platform["variant"] = self.platform.variant
            data["platform"] = platform
        return {**data, **self.extra}


_DESCRIPTOR_MEMBERS = frozenset(("mediaType", "digest", "size", "annotations", "platform"))


@frozen
class Manifest:
    """An image manifest."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = MediaType.OCI_MANIFEST
    annotations: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Json] = field(default_factory=dict)

    @staticmethod
    def from_bytes(data: bytes, media_type: str | None = None) -> Manifest:
        """Read and check the JSON; `media_type` is the one in its descriptor, if known. Raises InvalidImage."""
        fields = _document(data, "manifest", media_type, (MediaType.OCI_MANIFEST, MediaType.DOCKER_MANIFEST))
        if "manifests" in fields.data or "fsLayers" in fields.data:
            raise InvalidImage(
                "manifest: it is also valid as an index or as schema 1", hint="the image is damaged or hostile"
            )
        layers = fields.objects("layers")
        if len(layers) > IMAGE_LAYERS.value:
            raise IMAGE_LAYERS.exceeded(InvalidImage, "manifest: more than the limit of {} layers")
        if "config" not in fields.data:
            raise fields.wrong("config", "a descriptor")
        return Manifest(
            Descriptor.read(fields.object("config")),
            tuple(_layer(layer) for layer in layers),
            fields.text("mediaType", media_type or MediaType.OCI_MANIFEST),
            fields.mapping("annotations"),
            fields.others(frozenset(("schemaVersion", "mediaType", "config", "layers", "annotations"))),
        )

    def to_bytes(self) -> bytes:
        """The JSON; the same value always gives the same bytes."""
        data: dict[str, Json] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": self.config.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }
        if self.annotations:
            data["annotations"] = dict(self.annotations)
        return dump({**data, **self.extra})


def _layer(fields: Fields) -> Descriptor:
    layer = Descriptor.read(fields)
    if "nondistributable" in layer.media_type or "foreign" in layer.media_type:
        raise InvalidImage(f"layer {layer.digest}: non-distributable layers are not supported")
    return layer


@frozen
class Index:
    """An image index: the manifests of one image for several platforms, or of the images in one archive."""

    manifests: tuple[Descriptor, ...]
    media_type: str = MediaType.OCI_INDEX
    annotations: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The JSON; the same value always gives the same bytes."""
        data: dict[str, Json] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "manifests": [manifest.to_json() for manifest in self.manifests],
        }
        if self.annotations:
            data["annotations"] = dict(self.annotations)
        return dump(data)

    @staticmethod
    def from_bytes(data: bytes, media_type: str | None = None) -> Index:
        """Read and check the JSON; `media_type` is the one in its descriptor, if known. Raises InvalidImage."""
        fields = _document(data, "index", media_type, (MediaType.OCI_INDEX, MediaType.DOCKER_INDEX))
        if "layers" in fields.data:
            raise InvalidImage("index: it is also valid as a manifest", hint="the image is damaged or hostile")
        manifests = tuple(Descriptor.read(found) for found in fields.objects("manifests"))
        return Index(manifests, fields.text("mediaType", MediaType.OCI_INDEX), fields.mapping("annotations"))

    def select(self, platform: Platform) -> Descriptor:
        """The first manifest for `platform`; a manifest without a platform matches every platform. Raises NotFound."""
        for manifest in self.manifests:
            if manifest.platform is None or platform.matches(manifest.platform):
                return manifest
        available = ", ".join(sorted({str(found.platform) for found in self.manifests if found.platform})) or "none"
        raise NotFound(f"the image has no manifest for {platform}", hint=f"its platforms are: {available}")


def _document(data: bytes, name: str, media_type: str | None, allowed: tuple[str, ...]) -> Fields:
    fields = Fields(load_object(data, name, limit=MANIFEST_BYTES), name)
    if fields.data.get("schemaVersion") == 1:
        raise InvalidImage(f"{name}: schema 1 is not supported", hint="push the image again with a current tool")
    if fields.integer("schemaVersion", 2) != 2:
        raise fields.wrong("schemaVersion", "2")
    own = fields.optional_text("mediaType")
    for kind in (own, media_type):
        if kind is not None and kind not in allowed:
            raise InvalidImage(f"{name}: unexpected media type {kind!r}")
    if own is not None and media_type is not None and own != media_type:
        raise InvalidImage(f"{name}: its media type is {own!r}, its descriptor says {media_type!r}")
    return fields
