"""Makes docker archives by hand in the styles of several tools, valid and invalid ones."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.tars import directory, entry, symlink, tar

if TYPE_CHECKING:
    from collections.abc import Callable


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Saved:
    """An archive of one image. `style` selects the file names of docker, podman (also skopeo's) or crane."""

    layers: list[bytes] = field(default_factory=lambda: [tar(entry(b"f", data=b"hello"))])
    style: str = "podman"
    pack: Callable[[bytes], bytes] = bytes  # applied to each layer
    tags: list[str] | None = field(default_factory=lambda: ["test:1"])
    diff_ids: list[str] | None = None
    config_fields: dict[str, object] = field(default_factory=dict)
    config: bytes | None = None  # replaces its content; the name is unchanged
    item_fields: dict[str, object] = field(default_factory=dict)
    manifest: bytes | None = None  # replaces its content
    lose: bytes = b""  # the member to leave out
    extra: list[bytes] = field(default_factory=list)

    @property
    def config_bytes(self) -> bytes:
        diff_ids = self.diff_ids if self.diff_ids is not None else ["sha256:" + sha(layer) for layer in self.layers]
        fields = {"architecture": "amd64", "os": "linux", "config": {"Env": ["A=b"]}}
        return json.dumps({**fields, "rootfs": {"type": "layers", "diff_ids": diff_ids}, **self.config_fields}).encode()

    @property
    def config_name(self) -> str:
        name = sha(self.config_bytes)
        return f"sha256:{name}" if self.style == "crane" else f"{name}.json"

    def members(self) -> tuple[dict[bytes, bytes], dict[str, object]]:
        """Name -> member of the tar, and the item of this image in manifest.json."""
        found: dict[bytes, bytes] = {}
        names = []
        seen: dict[bytes, bytes] = {}
        for number, layer in enumerate(self.layers):
            data = self.pack(layer)
            if self.style == "docker":
                # The ids of docker's first image format, which are not digests of anything in the archive.
                place = sha(b"%d" % number).encode()
                name = place + b"/layer.tar"
                found[place + b"/"] = directory(place + b"/")
                found[place + b"/VERSION"] = entry(place + b"/VERSION", data=b"1.0")
                found[place + b"/json"] = entry(place + b"/json", data=b"{}")
                first = seen.setdefault(layer, place)
                found[name] = (
                    entry(name, data=data) if first == place else symlink(name, b"../" + first + b"/layer.tar")
                )
            else:
                name = sha(layer).encode() + (b".tar.gz" if self.style == "crane" else b".tar")
                found[name] = entry(name, data=data)
            names.append(name.decode())
        config_name = self.config_name.encode()
        found[config_name] = entry(config_name, data=self.config if self.config is not None else self.config_bytes)
        item: dict[str, object] = {"Config": config_name.decode(), "RepoTags": self.tags, "Layers": names}
        return found, {**item, **self.item_fields}

    def data(self) -> bytes:
        return several(self)


def several(*images: Saved) -> bytes:
    """One archive of several images; the first image decides about manifest, lost and extra members."""
    found: dict[bytes, bytes] = {}
    items = []
    for image in images:
        members, item = image.members()
        found |= members
        items.append(item)
    first = images[0]
    manifest = json.dumps(items).encode() if first.manifest is None else first.manifest
    found[b"manifest.json"] = entry(b"manifest.json", data=manifest)
    found.pop(first.lose, None)
    return tar(*found.values(), *first.extra)


def gz(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)
