"""The index of a build cache that travels: which steps it has the results of, and under which keys they are found.

A travelling cache is an ordinary image. Its layers are the layers of the steps, and a member of its config holds the
index: base64 of zstd of JSON. So every registry takes it, an OCI layout can hold it, and the config of an image can carry
the steps of that image itself (an inline cache).

    {"version": 1, "records": [{"keys": {"<key>": "content"}, "canonical": "<key>", "created": 1700000000,
      "used": 1700000000, "layer": 3, "parent": "base:sha256:...", "clamp": null,
      "step": {"stage": "...", "number": 2, "instruction": "RUN make", "inputs": "{...}"}}],
     "mounts": [{"key": "<key>", "name": "pip", "layer": 4, "saved": 1700000000, "used": 1700000000, "secret": false}]}

The member `tables` tells where tables of contents of layers are: {"chain": "sha256:...", "parent": "sha256:...", "layer": 4}.

A record names the layers below its own by their chain ID (OCI image-spec, config.md). So records of several machines can
be put together without ids that the machines agree on. A record without a layer only tells the canonical key of a step.

The member `mounts` is there if the cache has cache mounts: the directory of each is one more layer of the image.

Nothing of an index is trusted. What it says about a layer is a claim, until the bytes of the layer have been read. Whoever
can write a cache decides what is built from it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage, NotACache
from pybuild.store.formats.bounded_json import Fields, dump, load_object
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import COMPRESSIONS, LAYER_TYPES
from pybuild.store.formats.oci_config import CACHE_MEMBER, chain_id
from pybuild.values import frozen
from pybuild.values.limits import CACHE_INDEX_BYTES
from pybuild.values.pattern import pattern

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.store.formats.bounded_json import Json
    from pybuild.store.formats.compression import Compression
    from pybuild.store.formats.oci_config import ImageConfig
    from pybuild.store.formats.oci_manifest import Descriptor, Manifest

BUILDKIT_MEMBER = "moby.buildkit.cache.v0"  # of a config: BuildKit's inline cache
BUILDKIT_CONFIG = "application/vnd.buildkit.cacheconfig.v0"  # media type of the config of a cache of BuildKit
_VERSION = 1
_BASE = "base:"
_KEY = pattern(r"[0-9a-f]{64}")
_KINDS = ("definition", "content", "text")
_TEXT = 4096  # characters of an instruction, or the name of a stage or of a cache mount
_LATEST = 253_402_300_799  # seconds; the end of the year 9999, the last one that a config of an image can name


@frozen
class CachedLayer:
    """The layer of a step: the digest of its tar, and a blob of it. `size` is in bytes."""

    diff_id: Digest
    digest: Digest
    size: int
    compression: Compression


@frozen
class CachedStep:
    """What a step was, to explain why another one is not served. `inputs` are the fields of its key, as JSON."""

    stage: str
    number: int
    instruction: str
    inputs: str


@frozen
class CacheRecord:
    """The result of a step.

    `keys` has the kind of each key (store/objects/records.py). `below` is the chain ID of the layers that the step stands
    on, None for none; `on_base` says whether they are those of a base image. `clamp` is the newest time in the layer,
    if SOURCE_DATE_EPOCH bounded it. Times are in seconds since the epoch.
    """

    keys: Mapping[str, str]
    canonical: str
    created: int
    used: int  # when a build made or used it last
    step: CachedStep
    layer: CachedLayer | None = None
    below: Digest | None = None
    on_base: bool = False
    clamp: int | None = None

    @property
    def chain(self) -> Digest | None:
        """The chain ID of the layers of the result; None for a record without a layer."""
        if self.layer is None:
            return None
        return self.layer.diff_id if self.below is None else chain_id((self.below, self.layer.diff_id))


@frozen
class CachedTable:
    """Where the table of contents of a layer is, so that files can be placed on layers that stay where they are.

    What a table says depends on the layers below, so its name is their chain ID with the layer (`chain`). `pack` is a layer
    whose tar has the table as a file of that name (`table_name`).
    """

    chain: Digest
    below: Digest | None
    pack: CachedLayer


def table_name(chain: Digest) -> bytes:
    """The name of the table of contents in the tar of its pack."""
    return chain.hex.encode()


@frozen
class CachedMount:
    """A cache mount. `key` is the same on all machines, `name` is its id with the namespace of the build.

    Times are in seconds since the epoch. `secret`: a step that had a secret could write to it.
    """

    key: str
    name: str
    layer: CachedLayer  # its directory
    saved: int
    used: int  # when a build that mounts it wrote the cache last
    secret: bool = False


@frozen
class CacheIndex:
    """The records of a cache, tables of contents of layers that they have or stand on, and cache mounts."""

    records: tuple[CacheRecord, ...] = ()
    tables: tuple[CachedTable, ...] = ()
    mounts: tuple[CachedMount, ...] = ()

    @property
    def layers(self) -> tuple[CachedLayer, ...]:
        """The layers of all records, the packs of all tables and the cache mounts, each once, in this order."""
        layers = [record.layer for record in self.records if record.layer is not None]
        layers += [table.pack for table in self.tables]
        layers += [mount.layer for mount in self.mounts]
        return tuple({layer.digest: layer for layer in layers}.values())

    def to_member(self, layers: Sequence[CachedLayer]) -> str:
        """The member of the config of an image with these layers."""
        import zstandard  # a local import: a build without a cache that travels does not need it

        positions = {layer.digest: number for number, layer in enumerate(layers)}
        records = [_record_json(record, positions) for record in self.records]
        content: dict[str, Json] = {"version": _VERSION, "records": [*records]}
        if self.tables:
            content["tables"] = [_table_json(table, positions) for table in self.tables]
        if self.mounts:
            content["mounts"] = [_mount_json(mount, positions) for mount in self.mounts]
        data = zstandard.ZstdCompressor(level=9).compress(dump(content))
        return base64.b64encode(data).decode("ascii")


def read_index(manifest: Manifest, config: ImageConfig) -> CacheIndex | None:
    """The index that an image carries; None if it carries none. Raises InvalidImage if it is damaged or too large,
    NotACache if another version wrote it.
    """
    text = config.extra.get(CACHE_MEMBER)
    if text is None:
        return None
    if not isinstance(text, str):
        raise InvalidImage(f"config.{CACHE_MEMBER}: expected a string")
    fields = Fields(load_object(_expanded(text), "cache index", limit=CACHE_INDEX_BYTES), "cache index")
    if (version := fields.integer("version", 1 << 30)) != _VERSION:
        raise NotACache(f"cache index: version {version} is not known", hint="another version of pybuild wrote it")
    layers = [_layer(layer, diff_id) for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True)]
    return CacheIndex(
        tuple(_read_record(record, layers) for record in fields.objects("records")),
        tuple(_read_table(table, layers) for table in fields.objects("tables")),
        tuple(_read_mount(mount, layers) for mount in fields.objects("mounts")),
    )


def without_times(index: CacheIndex) -> CacheIndex:
    """The same index, in which a record was used last when it was made: a cached build gives the same image again."""
    return replace(index, records=tuple(replace(record, used=record.created) for record in index.records))


def descriptor_type(layer: CachedLayer) -> str:
    """The media type of a layer."""
    return LAYER_TYPES[layer.compression]


def _expanded(text: str) -> bytes:
    import zstandard

    limit = CACHE_INDEX_BYTES.value
    try:
        data = base64.b64decode(text, validate=True)
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data) as reader:
            found = reader.read(limit + 1)
    except (binascii.Error, ValueError):
        raise InvalidImage("cache index: it is not base64") from None
    except (zstandard.ZstdError, MemoryError):
        raise InvalidImage("cache index: it is damaged") from None
    if len(found) > limit:
        raise CACHE_INDEX_BYTES.exceeded(InvalidImage, "cache index: it exceeds the limit of {}")
    return found


def _layer(descriptor: Descriptor, diff_id: Digest) -> CachedLayer | None:
    """A layer; None if it is of a type that no step makes."""
    compression = COMPRESSIONS.get(descriptor.media_type)
    return None if compression is None else CachedLayer(diff_id, descriptor.digest, descriptor.size, compression)


def _record_json(record: CacheRecord, positions: Mapping[Digest, int]) -> dict[str, Json]:
    step = record.step
    data: dict[str, Json] = {
        "keys": dict(sorted(record.keys.items())),
        "canonical": record.canonical,
        "created": record.created,
        "used": record.used,
        "step": {
            "stage": step.stage, "number": step.number, "instruction": step.instruction[:_TEXT], "inputs": step.inputs,
        },
    }  # fmt: skip
    if record.layer is not None:
        below = "" if record.below is None else str(record.below)
        data |= {"layer": positions[record.layer.digest], "parent": f"{_BASE}{below}" if record.on_base else below}
        if record.clamp is not None:
            data["clamp"] = record.clamp
    return data


def _table_json(table: CachedTable, positions: Mapping[Digest, int]) -> dict[str, Json]:
    below = "" if table.below is None else str(table.below)
    return {"chain": str(table.chain), "parent": below, "layer": positions[table.pack.digest]}


def _read_table(fields: Fields, layers: Sequence[CachedLayer | None]) -> CachedTable:
    below = fields.text("parent")
    return CachedTable(
        Digest.parse(fields.text("chain")), Digest.parse(below) if below else None, _layer_at(fields, layers)
    )


def _layer_at(fields: Fields, layers: Sequence[CachedLayer | None]) -> CachedLayer:
    if (position := fields.integer("layer", 1 << 30)) >= len(layers) or (layer := layers[position]) is None:
        raise fields.wrong("layer", "the position of a layer")
    return layer


def _read_record(fields: Fields, layers: Sequence[CachedLayer | None]) -> CacheRecord:
    keys, canonical = fields.mapping("keys"), fields.text("canonical")
    if not _KEY.fullmatch(canonical) or not all(map(_KEY.fullmatch, keys)):
        raise fields.wrong("keys", "SHA-256 in hexadecimal")
    if not set(keys.values()) <= set(_KINDS):
        raise fields.wrong("keys", f"the kinds {', '.join(_KINDS)}")
    step = fields.object("step")
    found = CacheRecord(
        keys,
        canonical,
        fields.integer("created", _LATEST),
        fields.integer("used", _LATEST),
        CachedStep(
            step.text("stage", "")[:_TEXT],
            step.integer("number", 1 << 30),
            step.text("instruction", "")[:_TEXT],
            step.text("inputs", "{}"),
        ),
    )
    if fields.data.get("layer") is None:
        return found
    layer = _layer_at(fields, layers)
    parent = fields.text("parent")
    below = parent.removeprefix(_BASE)
    return replace(
        found,
        layer=layer,
        below=Digest.parse(below) if below else None,
        on_base=parent.startswith(_BASE),
        clamp=None if fields.data.get("clamp") is None else fields.integer("clamp", _LATEST),
    )


def _mount_json(mount: CachedMount, positions: Mapping[Digest, int]) -> dict[str, Json]:
    return {
        "key": mount.key,
        "name": mount.name.encode("utf-8", "replace").decode()[:_TEXT],
        "layer": positions[mount.layer.digest],
        "saved": mount.saved,
        "used": mount.used,
        "secret": mount.secret,
    }


def _read_mount(fields: Fields, layers: Sequence[CachedLayer | None]) -> CachedMount:
    if not _KEY.fullmatch(key := fields.text("key")):
        raise fields.wrong("key", "SHA-256 in hexadecimal")
    return CachedMount(
        key,
        fields.text("name", "")[:_TEXT],
        _layer_at(fields, layers),
        fields.integer("saved", _LATEST),
        fields.integer("used", _LATEST),
        fields.data.get("secret") is not False,
    )
