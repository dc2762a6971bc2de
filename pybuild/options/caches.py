"""The values of --cache-from and --cache-to, read as docker's buildx reads them.

A value is comma-separated KEY=VALUE, quoted as in CSV; names alone, without `=`, are caches in registries. A value of a key
that has commas itself is quoted with its key: `type=registry,ref=NAME,"mounts=pip,npm"`. Source:
https://docs.docker.com/build/cache/backends/
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from pybuild.builder.cache_places import (
    ALL_MOUNTS,
    DEFAULT_RECORDS,
    CacheExport,
    CacheImport,
    CacheMode,
    InlineCache,
    LocalCache,
    RegistryCache,
)
from pybuild.builder.output.export import RegistryOutput
from pybuild.options.arguments import csv_fields, size_option
from pybuild.options.buildkit_arguments import inline_cache
from pybuild.options.key_values import KeyValues
from pybuild.store.errors import InvalidImage
from pybuild.store.formats.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from pybuild.builder.output.export import Output

_FROM, _TO = "--cache-from", "--cache-to"
_TYPES = ("registry", "local", "inline")
_WHERE = {"registry": ("ref",), "local": ("src", "dest", "tag"), "inline": ()}
_CONTENTS = ("mode", "compression", "max-size", "max-records", "mounts", "ignore-error")
_DOCKERS = {  # keys of docker's -> the value that they can have, and why no other
    "oci-mediatypes": (True, "a cache has OCI's media types"),
    "image-manifest": (True, "a cache is an image manifest, because every registry takes one"),
    "oci-artifact": (False, "a cache is an image manifest, because every registry takes one"),
    "force-compression": (False, "layers of base images stay as their registry has them"),
}
_SERVICES = {"gha": "GitHub's cache service", "s3": "S3", "azblob": "Azure's blob storage"}
_REFUSED = {
    "compression-level": "each compression has one level; leave it out",
    "digest": "a cache in a directory is found by its tag; write tag=NAME",
    "registry.insecure": "write --tls-verify=false",
}

CACHE_FROM = click.Option(
    [_FROM],
    multiple=True,
    metavar="SPEC",
    help=(
        "Take what is not in the store from this cache of another machine: type=registry,ref=NAME, an image with an inline"
        " cache too, or type=local,src=DIRECTORY, perhaps with tag=NAME. NAME alone means type=registry. Can be repeated;"
        " caches are asked in this order."
    ),
)
CACHE_TO = click.Option(
    [_TO],
    multiple=True,
    metavar="SPEC",
    help=(
        "Add what this build used and made to a cache for other machines: type=registry,ref=NAME;"
        " type=local,dest=DIRECTORY, perhaps with tag=NAME; or type=inline, in the image itself. registry and local take"
        " mode=min|max (the layers of the image, or those of all steps), max-size=SIZE, max-records=N,"
        " compression=gzip|zstd|uncompressed, mounts=ID (all, or ids of cache mounts that travel too) and"
        " ignore-error=false (fail if the cache cannot be written). Can be repeated."
    ),
)


def parse_cache_imports(texts: Iterable[str]) -> tuple[CacheImport, ...]:
    """Read all --cache-from of a command. One that is given twice counts once. Raises click.UsageError."""
    return tuple(dict.fromkeys(found for text in texts for found in parse_cache_import(text)))


def parse_cache_exports(texts: Iterable[str]) -> tuple[CacheExport, ...]:
    """Read all --cache-to of a command; each needs a place of its own. Raises click.UsageError."""
    exports: list[CacheExport] = []
    for text in texts:
        for export in parse_cache_export(text):
            if any(export.place == other.place for other in exports):
                raise click.UsageError(f"{_TO} {text}: {export.place} is given twice")
            exports.append(export)
    return tuple(exports)


def with_inline_cache(exports: Sequence[CacheExport], args: Mapping[str, str]) -> tuple[CacheExport, ...]:
    """The exports, and type=inline if the build argument BUILDKIT_INLINE_CACHE asks for it. Raises click.UsageError."""
    if not inline_cache(args) or any(isinstance(export.place, InlineCache) for export in exports):
        return tuple(exports)
    return (*exports, CacheExport(InlineCache()))


def parse_cache_import(text: str) -> tuple[CacheImport, ...]:
    """Read one --cache-from: a cache, or several names. Raises click.UsageError."""
    given = _given(_FROM, text)
    if not isinstance(given, KeyValues):
        return tuple(CacheImport(_registry(one)) for one in given)
    kind = _type_of(given)
    if kind == "inline":
        raise given.error("the cache of an image is read from the image: write type=registry,ref=IMAGE")
    if "dest" in given.values and kind == "local":
        raise given.error(f"{_FROM} reads src=DIRECTORY; dest= is a key of {_TO}")
    for key in given.values:
        if key in _CONTENTS or key in _DOCKERS:
            raise given.error(f"{key}= is a key of {_TO}")
    _refuse_others(given, tuple(key for key in _WHERE[kind] if key != "dest"))
    return (CacheImport(_registry(given) if kind == "registry" else _local(given, "src")),)


def parse_cache_export(text: str) -> tuple[CacheExport, ...]:
    """Read one --cache-to: a cache, or several names. Raises click.UsageError."""
    given = _given(_TO, text)
    if not isinstance(given, KeyValues):
        return tuple(CacheExport(_written(one)) for one in given)
    kind = _type_of(given)
    mode = _mode(given)
    if kind == "inline":
        if mode is CacheMode.MAX:
            raise given.error("an image has only its own layers: for mode=max write type=registry or type=local")
        _refuse_others(given, ("mode",))
        return (CacheExport(InlineCache()),)
    if "src" in given.values and kind == "local":
        raise given.error(f"{_TO} writes to dest=DIRECTORY; src= is a key of {_FROM}")
    _refuse_others(given, (*(key for key in _WHERE[kind] if key != "src"), *_CONTENTS), _DOCKERS)
    for key, (only, reason) in _DOCKERS.items():
        if given.truth(key, only) is not only:
            raise given.error(f"{key}={given.values[key]}: {reason}; leave it out")
    return (
        CacheExport(
            _written(given) if kind == "registry" else _local(given, "dest"),
            mode,
            _max_records(given),
            _max_size(given),
            given.compression(),
            _mounts(given),
            given.truth("ignore-error", True),
        ),
    )


def refuse_overwriting(exports: Iterable[CacheExport], outputs: Iterable[Output], tags: Sequence[Reference]) -> None:
    """Raise click.UsageError if a cache would replace an image that the same build pushes."""
    pushed: set[Reference] = set()
    for output in outputs:
        if isinstance(output, RegistryOutput):
            pushed.update(tags if output.names is None else output.names)
    for export in exports:
        if isinstance(export.place, RegistryCache) and export.place.name in pushed:
            raise click.UsageError(
                f"{_TO}: {export.place} is the image of this build, which the cache would replace:"
                f" give the cache another tag, or write {_TO} type=inline"
            )


def _given(option: str, text: str) -> KeyValues | list[KeyValues]:
    """The keys of a value; or, for names alone, those that each name stands for."""
    fields = csv_fields(option, text)
    if not any(fields):
        raise click.UsageError(f"{option}: empty value")
    if any("=" in field for field in fields):
        return KeyValues.read(option, text, fields)
    return [KeyValues(option, text, {"type": "registry", "ref": field}) for field in fields]


def _type_of(given: KeyValues) -> str:
    kind = given.values.get("type", "")
    if kind in _SERVICES:
        raise given.error(
            f"{_SERVICES[kind]} is not supported: use type=registry, or type=local and copy the directory"
        )
    return given.type_of(_TYPES)


def _refuse_others(given: KeyValues, allowed: Sequence[str], unlisted: Collection[str] = ()) -> None:
    """Raise click.UsageError for a key that is neither allowed nor, without being listed, accepted."""
    for key, reason in _REFUSED.items():
        if key in given.values:
            raise given.error(f"{key}=: {reason}")
    given.refuse_other_keys(allowed, unlisted)


def _registry(given: KeyValues) -> RegistryCache:
    name = given.values.get("ref", "").strip()
    if not name:
        raise given.error("expected ref=NAME, for instance ref=registry.example/team/app:cache")
    return RegistryCache(given.reference(name))


def _written(given: KeyValues) -> RegistryCache:
    place = _registry(given)
    if place.name.digest is not None:
        raise given.error("a digest cannot be chosen: name a tag")
    return place


def _local(given: KeyValues, key: str) -> LocalCache:
    path = given.values.get(key, "")
    if path in ("", "-"):
        raise given.error(f"expected {key}=DIRECTORY")
    path = os.path.abspath(path)
    tag = given.values.get("tag")
    if tag is None:
        return LocalCache(path)
    if not _is_tag(tag):
        raise given.error(f"tag={tag}: expected up to 128 letters, digits, dots, dashes and underscores")
    return LocalCache(path, tag)


def _is_tag(text: str) -> bool:
    try:
        return Reference.parse(f"cache:{text}").tag == text
    except InvalidImage:
        return False


def _mode(given: KeyValues) -> CacheMode:
    name = given.values.get("mode", CacheMode.MIN.value)
    if name not in (mode.value for mode in CacheMode):
        raise given.error(f"mode={name}: it can be min or max")
    return CacheMode(name)


def _max_records(given: KeyValues) -> int:
    text = given.values.get("max-records")
    if text is None:
        return DEFAULT_RECORDS
    if not text.isdecimal() or not text.isascii() or len(text) > 18 or int(text) == 0:
        raise given.error(f"max-records={text}: expected a number above 0")
    return int(text)


def _max_size(given: KeyValues) -> int | None:
    text = given.values.get("max-size")
    size = size_option(f"{given.option} {given.text}: max-size=", text)
    if size == 0:
        raise given.error(f"max-size={text}: expected a size above 0")
    return size


def _mounts(given: KeyValues) -> tuple[str, ...]:
    text = given.values.get("mounts")
    if text is None:
        return ()
    ids = tuple(dict.fromkeys(id.strip() for id in text.split(",")))
    if not all(ids):
        raise given.error("mounts=: an id is empty; it can be all, or ids of cache mounts")
    if ALL_MOUNTS in ids and len(ids) > 1:
        raise given.error("mounts=all covers all cache mounts: leave out the ids")
    return ids
