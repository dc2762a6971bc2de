"""Image configs and their JSON, the history entry of each layer, and chain IDs.

The values are frozen. Unknown members are kept in `extra` and written back.
Sources: OCI image-spec 1.1, config.md; moby's image spec v1.2 for the members of `config` that OCI leaves out
(Healthcheck, OnBuild, Shell, ArgsEscaped).
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.bounded_json import Fields, Json, dump, load_object
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.platform import Platform
from pybuild.values import frozen
from pybuild.values.limits import CONFIG_BYTES

if TYPE_CHECKING:
    from pybuild.store.formats.oci_manifest import Manifest

CACHE_MEMBER = "pybuild.cache"  # of a config: a build cache, cache_index.py


@frozen
class History:
    """One entry of an image's history."""

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
            fields.others(frozenset(("created", "created_by", "comment", "author", "empty_layer"))),
        )

    def to_json(self) -> dict[str, Json]:
        """The JSON members; empty ones are omitted."""
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
    """How a container of the image runs: the `config` object of the JSON."""

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
            fields.others(_EXEC_MEMBERS),
        )

    def to_json(self) -> dict[str, Json]:
        """The JSON members in BuildKit's order; empty ones are omitted."""
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


_EXEC_MEMBERS = frozenset(
    (
        "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal", "Shell",
        "Healthcheck", "OnBuild", "ArgsEscaped",
    )
)  # fmt: skip
_CONFIG_MEMBERS = frozenset(("architecture", "os", "variant", "created", "author", "config", "rootfs", "history"))


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

    @property
    def platform(self) -> Platform:
        """The platform in its normal form, with the version and the features of a Windows."""
        version, features = self.extra.get("os.version"), self.extra.get("os.features")
        return Platform(
            self.os,
            self.architecture,
            self.variant,
            version if isinstance(version, str) else "",
            tuple(one for one in features if isinstance(one, str)) if isinstance(features, list) else (),
        ).normal()

    @staticmethod
    def from_bytes(data: bytes) -> ImageConfig:
        """Read and check the JSON. Raises InvalidImage."""
        fields = Fields(load_object(data, "config", limit=CONFIG_BYTES), "config")
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
            fields.others(_CONFIG_MEMBERS),
        )

    def to_bytes(self) -> bytes:
        """The JSON; the same value always gives the same bytes."""
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
    """Raise InvalidImage unless manifest and config have the same number of layers."""
    if len(manifest.layers) != len(config.diff_ids):
        raise InvalidImage(f"the manifest has {len(manifest.layers)} layers, the config {len(config.diff_ids)}")


def normalise_history(config: ImageConfig) -> ImageConfig:
    """Give the history exactly one entry for each layer: add missing ones, mark surplus ones as empty.

    BuildKit does the same for a base whose history was stripped or was written by another tool.
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
    """The chain ID of a stack of layers, the lowest first. OCI image-spec, config.md, "Layer ChainID"."""
    chain = diff_ids[0]
    for diff_id in diff_ids[1:]:
        chain = Digest.of(f"{chain} {diff_id}".encode("ascii"))
    return chain


def format_time(seconds: float) -> str:
    """A time since the epoch as RFC 3339 in UTC, with a fraction only if it is not zero."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return moment.isoformat(timespec="seconds" if seconds == int(seconds) else "microseconds").replace("+00:00", "Z")
