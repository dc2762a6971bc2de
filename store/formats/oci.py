"""The values of an image as the OCI image-spec defines them, and their JSON.

Frozen; fields that we do not know are kept in `extra` and written back. Docker's media types and configs read alike.
Sources: OCI image-spec 1.1 (descriptor.md, manifest.md, image-index.md, config.md); moby's image spec v1.2 for the
members of `config` that OCI leaves out (Healthcheck, OnBuild, Shell, ArgsEscaped).
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import field, replace

from pybuild.store.errors import InvalidImage, NotFound
from pybuild.store.formats.bounded_json import Fields, Json, dump, load_object
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.platform import Platform
from pybuild.values import frozen

MANIFEST_LIMIT = 4 << 20
CONFIG_LIMIT = 8 << 20
_MAX_SIZE = (1 << 63) - 1
_MAX_LAYERS = 10_000


class MediaType:
    """The media types that are read or written."""

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


@frozen
class Descriptor:
    """What points to a blob. `urls` of a hostile image stay in `extra` and are never fetched."""

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
            platform = Platform(found.text("os", ""), found.text("architecture", ""), found.text("variant", ""))
        return Descriptor(
            fields.text("mediaType", ""),
            Digest.parse(fields.text("digest")),
            fields.integer("size", _MAX_SIZE),
            fields.mapping("annotations"),
            platform,
            fields.rest(_DESCRIPTOR),
        )

    def to_json(self) -> dict[str, Json]:
        """The JSON members, in the spec's order."""
        data: dict[str, Json] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.annotations:
            data["annotations"] = dict(self.annotations)
        if self.platform is not None:
            platform: dict[str, Json] = {"architecture": self.platform.architecture, "os": self.platform.os}
            if self.platform.variant:
                platform["variant"] = self.platform.variant
            data["platform"] = platform
        return {**data, **self.extra}


_DESCRIPTOR = frozenset(("mediaType", "digest", "size", "annotations", "platform"))


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
        """Read and check; `media_type` is what its descriptor says. Raises InvalidImage."""
        fields = _document(data, "manifest", media_type, (MediaType.OCI_MANIFEST, MediaType.DOCKER_MANIFEST))
        if "manifests" in fields.data or "fsLayers" in fields.data:
            raise InvalidImage(
                "manifest: it reads as an index, or as schema 1, too", hint="the image is damaged or hostile"
            )
        layers = fields.objects("layers")
        if len(layers) > _MAX_LAYERS:
            raise InvalidImage(f"manifest: more than the limit of {_MAX_LAYERS} layers")
        if "config" not in fields.data:
            raise fields.wrong("config", "a descriptor")
        return Manifest(
            Descriptor.read(fields.object("config")),
            tuple(_layer(layer) for layer in layers),
            fields.text("mediaType", media_type or MediaType.OCI_MANIFEST),
            fields.mapping("annotations"),
            fields.rest(frozenset(("schemaVersion", "mediaType", "config", "layers", "annotations"))),
        )

    def to_bytes(self) -> bytes:
        """Write; the same value always gives the same bytes."""
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
        raise InvalidImage(f"layer {layer.digest}: layers that may not be distributed are not supported")
    return layer


@frozen
class Index:
    """A list of manifests: for several platforms, or of several images of one archive."""

    manifests: tuple[Descriptor, ...]
    media_type: str = MediaType.OCI_INDEX
    annotations: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def from_bytes(data: bytes, media_type: str | None = None) -> Index:
        """Read and check. Raises InvalidImage."""
        fields = _document(data, "index", media_type, (MediaType.OCI_INDEX, MediaType.DOCKER_INDEX))
        if "layers" in fields.data:
            raise InvalidImage("index: it reads as a manifest too", hint="the image is damaged or hostile")
        manifests = tuple(Descriptor.read(found) for found in fields.objects("manifests"))
        return Index(manifests, fields.text("mediaType", MediaType.OCI_INDEX), fields.mapping("annotations"))

    def select(self, platform: Platform) -> Descriptor:
        """The first manifest for a platform; one that names no platform fits all. Raises NotFound."""
        for found in self.manifests:
            if found.platform is None or platform.matches(found.platform):
                return found
        there = ", ".join(sorted({str(found.platform) for found in self.manifests if found.platform})) or "none"
        raise NotFound(f"the image has nothing for {platform}", hint=f"it is there for: {there}")


def _document(data: bytes, what: str, media_type: str | None, allowed: tuple[str, ...]) -> Fields:
    fields = Fields(load_object(data, what, limit=MANIFEST_LIMIT), what)
    if fields.data.get("schemaVersion") == 1:
        raise InvalidImage(f"{what}: schema 1 is not supported", hint="push the image again with a tool of this decade")
    if fields.integer("schemaVersion", 2) != 2:
        raise fields.wrong("schemaVersion", "2")
    own = fields.optional_text("mediaType")
    for kind in (own, media_type):
        if kind is not None and kind not in allowed:
            raise InvalidImage(f"{what}: unexpected media type {kind!r}")
    if own is not None and media_type is not None and own != media_type:
        raise InvalidImage(f"{what}: its media type is {own!r}, its descriptor says {media_type!r}")
    return fields


@frozen
class History:
    """One line of an image's history."""

    created: str | None = None  # RFC 3339
    created_by: str = ""
    comment: str = ""
    author: str = ""
    empty_layer: bool = False
    extra: Mapping[str, Json] = field(default_factory=dict)

    @staticmethod
    def read(fields: Fields) -> History:
        """Read from JSON. Raises InvalidImage."""
        return History(
            fields.optional_text("created"),
            fields.text("created_by", ""),
            fields.text("comment", ""),
            fields.text("author", ""),
            fields.flag("empty_layer"),
            fields.rest(frozenset(("created", "created_by", "comment", "author", "empty_layer"))),
        )

    def to_json(self) -> dict[str, Json]:
        """The JSON members; empty ones are left out."""
        data: dict[str, Json] = {}
        for name, value in (
            ("created", self.created),
            ("created_by", self.created_by),
            ("comment", self.comment),
            ("author", self.author),
        ):
            if value:
                data[name] = value
        if self.empty_layer:
            data["empty_layer"] = True
        return {**data, **self.extra}


@frozen
class ExecConfig:
    """The execution parameters of an image, `config` in its JSON."""

    user: str = ""
    exposed_ports: tuple[str, ...] = ()
    env: tuple[str, ...] = ()  # K=V
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    volumes: tuple[str, ...] = ()
    working_dir: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    shell: tuple[str, ...] | None = None
    healthcheck: Json = None
    on_build: tuple[str, ...] = ()
    args_escaped: bool = False
    extra: Mapping[str, Json] = field(default_factory=dict)

    @staticmethod
    def read(fields: Fields) -> ExecConfig:
        """Read from JSON. Raises InvalidImage."""
        return ExecConfig(
            fields.text("User", ""),
            tuple(fields.object("ExposedPorts").data),
            fields.texts("Env"),
            fields.texts("Entrypoint") if fields.data.get("Entrypoint") is not None else None,
            fields.texts("Cmd") if fields.data.get("Cmd") is not None else None,
            tuple(fields.object("Volumes").data),
            fields.text("WorkingDir", ""),
            fields.mapping("Labels"),
            fields.text("StopSignal", ""),
            fields.texts("Shell") if fields.data.get("Shell") is not None else None,
            fields.data.get("Healthcheck"),
            fields.texts("OnBuild"),
            fields.flag("ArgsEscaped"),
            fields.rest(_EXEC),
        )

    def to_json(self) -> dict[str, Json]:
        """The JSON members in the order of BuildKit; empty ones are left out."""
        members: list[tuple[str, Json]] = [
            ("User", self.user),
            ("ExposedPorts", {port: {} for port in sorted(self.exposed_ports)}),
            ("Env", list(self.env)),
            ("Entrypoint", None if self.entrypoint is None else list(self.entrypoint)),
            ("Cmd", None if self.cmd is None else list(self.cmd)),
            ("Healthcheck", self.healthcheck),
            ("ArgsEscaped", self.args_escaped),
            ("Volumes", {volume: {} for volume in sorted(self.volumes)}),
            ("WorkingDir", self.working_dir),
            ("OnBuild", list(self.on_build)),
            ("Labels", {key: self.labels[key] for key in sorted(self.labels)}),
            ("StopSignal", self.stop_signal),
            ("Shell", None if self.shell is None else list(self.shell)),
        ]
        return {**{name: value for name, value in members if value}, **self.extra}


_EXEC = frozenset(
    (
        "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal", "Shell",
        "Healthcheck", "OnBuild", "ArgsEscaped",
    )
)  # fmt: skip
_CONFIG = frozenset(("architecture", "os", "variant", "created", "author", "config", "rootfs", "history"))


@frozen
class ImageConfig:
    """The config blob of an image."""

    architecture: str
    os: str
    variant: str
    created: str | None
    author: str
    config: ExecConfig
    diff_ids: tuple[Digest, ...]
    history: tuple[History, ...]
    extra: Mapping[str, Json] = field(default_factory=dict)

    @staticmethod
    def from_bytes(data: bytes) -> ImageConfig:
        """Read and check. Raises InvalidImage."""
        fields = Fields(load_object(data, "config", limit=CONFIG_LIMIT), "config")
        rootfs = fields.object("rootfs")
        if rootfs.text("type", "layers") != "layers":
            raise rootfs.wrong("type", "layers")
        return ImageConfig(
            fields.text("architecture", ""),
            fields.text("os", ""),
            fields.text("variant", ""),
            fields.optional_text("created"),
            fields.text("author", ""),
            ExecConfig.read(fields.object("config")),
            tuple(Digest.parse(text) for text in rootfs.texts("diff_ids")),
            tuple(History.read(line) for line in fields.objects("history")),
            fields.rest(_CONFIG),
        )

    def to_bytes(self) -> bytes:
        """Write; the same value always gives the same bytes."""
        data: dict[str, Json] = {"architecture": self.architecture}
        if self.author:
            data["author"] = self.author
        data["config"] = self.config.to_json()
        if self.created:
            data["created"] = self.created
        if self.history:
            data["history"] = [line.to_json() for line in self.history]
        data["os"] = self.os
        data["rootfs"] = {"type": "layers", "diff_ids": [str(digest) for digest in self.diff_ids]}
        if self.variant:
            data["variant"] = self.variant
        return dump({**data, **self.extra})


def check_image(manifest: Manifest, config: ImageConfig) -> None:
    """Raise InvalidImage where manifest and config do not tell of the same layers."""
    if len(manifest.layers) != len(config.diff_ids):
        raise InvalidImage(f"the manifest has {len(manifest.layers)} layers, the config {len(config.diff_ids)}")


def normalise_history(config: ImageConfig) -> ImageConfig:
    """Make the history tell of exactly the layers there are: pad what is missing, mark what is too much as empty.

    As BuildKit does with a base whose history was stripped or comes from another tool.
    """
    lines, layers = [], 0
    for line in config.history:
        if not line.empty_layer:
            layers += 1
            if layers > len(config.diff_ids):
                line = replace(line, empty_layer=True)
        lines.append(line)
    lines += [History(created=config.created)] * max(0, len(config.diff_ids) - layers)
    return replace(config, history=tuple(lines))


def chain_id(diff_ids: Sequence[Digest]) -> Digest:
    """The identity of a stack of layers: OCI image-spec, config.md, "Layer ChainID"."""
    chain = diff_ids[0]
    for diff_id in diff_ids[1:]:
        chain = Digest.of(f"{chain} {diff_id}".encode("ascii"))
    return chain


def format_time(seconds: float) -> str:
    """RFC 3339 in UTC; a fraction only where there is one."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return moment.isoformat(timespec="seconds" if seconds == int(seconds) else "microseconds").replace("+00:00", "Z")


def parse_time(text: str) -> float | None:
    """Seconds since the epoch of an RFC 3339 time; None where it is none."""
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None
