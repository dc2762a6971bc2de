"""Valid and invalid values of --cache-from and --cache-to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click
import pytest

from pybuild.builder.cache_places import CacheExport, CacheImport, CacheMode, InlineCache, LocalCache, RegistryCache
from pybuild.builder.output.export import LocalOutput, RegistryOutput
from pybuild.options.caches import (
    CACHE_FROM,
    CACHE_TO,
    parse_cache_exports,
    parse_cache_imports,
    refuse_overwriting,
    with_inline_cache,
)
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.reference import Reference

if TYPE_CHECKING:
    from pybuild.builder.output.export import Output

MAX = CacheMode.MAX
DIGEST = "sha256:" + "0" * 64
REF = "type=registry,ref=r.test/app:cache"
DIRECTORY = "type=local,dest=d"


def registry(name: str) -> RegistryCache:
    return RegistryCache(Reference.parse(name))


def local(path: str, *tag: str) -> LocalCache:
    return LocalCache(os.path.abspath(path), *tag)


CACHE = registry("r.test/app:cache")


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (REF, [CACHE]),
        ("r.test/app:cache", [CACHE]),
        ("r.test/app:cache,app", [CACHE, registry("app:latest")]),
        ("type=registry,ref=app", [registry("app:latest")]),
        ("ref=app,type=registry", [registry("app:latest")]),
        ("TYPE=registry, REF=app", [registry("app:latest")]),
        (f"type=registry,ref=r.test/app@{DIGEST}", [registry(f"r.test/app@{DIGEST}")]),
        ("type=local,src=/c", [local("/c")]),
        ("type=local,src=./c/", [local("c")]),
        ('type=local,"src=a,b",tag=main', [local("a,b", "main")]),
    ],
)
def test_a_cache_to_read_is_named_as_with_buildx(text: str, places: list[RegistryCache | LocalCache]) -> None:
    assert parse_cache_imports([text]) == tuple(map(CacheImport, places))


@pytest.mark.parametrize(
    ("text", "export"),
    [
        (REF, CacheExport(CACHE)),
        ("r.test/app:cache", CacheExport(CACHE)),
        ("app", CacheExport(registry("app:latest"))),
        (f"{REF},mode=min", CacheExport(CACHE)),
        (f"{REF},mode=max", CacheExport(CACHE, MAX)),
        (f"{REF},max-records=20", CacheExport(CACHE, max_records=20)),
        (f"{REF},max-size=10g", CacheExport(CACHE, max_size=10 << 30)),
        (f"{REF},max-size=1", CacheExport(CACHE, max_size=1)),
        (f"{REF},compression=zstd", CacheExport(CACHE, compression=Compression.ZSTD)),
        (f"{REF},compression=gzip", CacheExport(CACHE, compression=Compression.GZIP)),
        (f"{REF},compression=uncompressed", CacheExport(CACHE, compression=Compression.UNCOMPRESSED)),
        (f"{REF},mounts=all", CacheExport(CACHE, mounts=("all",))),
        (f"{REF},mounts=/root/.cache/pip", CacheExport(CACHE, mounts=("/root/.cache/pip",))),
        (f'{REF},"mounts=pip, npm,pip"', CacheExport(CACHE, mounts=("pip", "npm"))),
        (f"{REF},ignore-error=true", CacheExport(CACHE)),
        (f"{REF},ignore-error=false", CacheExport(CACHE, ignore_error=False)),
        (f"{REF},oci-mediatypes=true,image-manifest=true,force-compression=false,oci-artifact=0", CacheExport(CACHE)),
        (DIRECTORY, CacheExport(local("d"))),
        (f"{DIRECTORY},tag=v1,mode=max", CacheExport(local("d", "v1"), MAX)),
        (f"{DIRECTORY},max-size=1.5m,ignore-error=0", CacheExport(local("d"), max_size=3 << 19, ignore_error=False)),
        ("type=inline", CacheExport(InlineCache())),
        ("type=inline,mode=min", CacheExport(InlineCache())),
    ],
)
def test_a_cache_to_write_is_named_as_with_buildx(text: str, export: CacheExport) -> None:
    assert parse_cache_exports([text]) == (export,)


def test_caches_are_asked_in_order_and_once() -> None:
    texts = [REF, "type=local,src=/c", "app", "type=local,src=/c/.", "app:latest"]
    assert [found.place for found in parse_cache_imports(texts)] == [CACHE, local("/c"), registry("app:latest")]


def test_caches_are_written_to_several_places() -> None:
    texts = [REF, "a,b", DIRECTORY, f"{DIRECTORY},tag=other", "type=inline"]
    written = [export.place for export in parse_cache_exports(texts)]
    assert written == [CACHE, registry("a:latest"), registry("b:latest"), local("d"), local("d", "other"), InlineCache()]


TYPES = "it can be registry, local, inline"
SERVICE = "is not supported: use type=registry, or type=local and copy the directory"
TO = "is a key of --cache-to"
TO_KEYS = "mode, compression, max-size, max-records, mounts, ignore-error"
TAG = "expected up to 128 letters, digits, dots, dashes and underscores"
TAKE_TAG = "a digest cannot be chosen: name a tag"
NO_REF = "expected ref=NAME, for instance ref=registry.example/team/app:cache"
ARTIFACT = "a cache is an image manifest, because every registry takes one; leave it out"

IMPORTS_REFUSED = [
    ("type=gha", f"GitHub's cache service {SERVICE}"),
    ("type=s3,region=x,bucket=y", "S3" + f" {SERVICE}"),
    ("type=azblob,name=x", f"Azure's blob storage {SERVICE}"),
    ("type=zip", f"unknown type 'zip'; {TYPES}"),
    ("type=", f"type= is missing; {TYPES}"),
    ("ref=app", f"type= is missing; {TYPES}"),
    ("type=inline", "the cache of an image is read from the image: write type=registry,ref=IMAGE"),
    ("type=registry", NO_REF),
    ("type=registry,ref=", NO_REF),
    ("app,,b", NO_REF),
    ("type=registry,app", "expected KEY=VALUE, not 'app'"),
    ("type=registry,ref=a,ref=b", "ref= is given twice"),
    ("type=registry,ref=A", "invalid image name 'A'; image names must be in lower case"),
    ("type=registry,ref=a:b:c", "invalid image name 'a:b:c'; for instance debian:bookworm or host:5000/team/app:1.0"),
    ("type=registry,ref=a:$x", f"invalid tag '$x' in 'a:$x'; {TAG.removeprefix('expected ')}"),
    ("type=registry,src=d", "unknown key 'src'; type=registry takes type, ref"),
    ("type=registry,ref=a,scope=x", "unknown key 'scope'; type=registry takes type, ref"),
    (f"{REF},mode=max", f"mode= {TO}"),
    (f"{REF},max-size=1g", f"max-size= {TO}"),
    (f"{REF},mounts=all", f"mounts= {TO}"),
    (f"{REF},ignore-error=true", f"ignore-error= {TO}"),
    (f"{REF},image-manifest=true", f"image-manifest= {TO}"),
    (f"{REF},registry.insecure=true", "registry.insecure=: write --tls-verify=false"),
    ("type=local", "expected src=DIRECTORY"),
    ("type=local,src=", "expected src=DIRECTORY"),
    ("type=local,src=-", "expected src=DIRECTORY"),
    ("type=local,dest=d", "--cache-from reads src=DIRECTORY; dest= is a key of --cache-to"),
    ("type=local,src=d,ref=a", "unknown key 'ref'; type=local takes type, src, tag"),
    (f"type=local,src=d,digest={DIGEST}", "digest=: a cache in a directory is found by its tag; write tag=NAME"),
    ("type=local,src=d,tag=", f"tag=: {TAG}"),
    ("type=local,src=d,tag=a/b", f"tag=a/b: {TAG}"),
    (f"type=local,src=d,tag=a@{DIGEST}", f"tag=a@{DIGEST}: {TAG}"),
    ('type=local,"src=d', "unexpected end of data"),
]
EXPORTS_REFUSED = [
    ("type=gha,mode=max", f"GitHub's cache service {SERVICE}"),
    ("type=s3", "S3" + f" {SERVICE}"),
    ("type=azblob", f"Azure's blob storage {SERVICE}"),
    ("type=zip", f"unknown type 'zip'; {TYPES}"),
    ("mode=max,ref=app", f"type= is missing; {TYPES}"),
    ("type=registry,mode=max", NO_REF),
    (f"type=registry,ref=app@{DIGEST}", TAKE_TAG),
    (f"type=registry,ref=app:1@{DIGEST}", TAKE_TAG),
    (f"app@{DIGEST}", TAKE_TAG),
    (f"{REF},mode=all", "mode=all: it can be min or max"),
    (f"{REF},mode=", "mode=: it can be min or max"),
    (f"{REF},mode=max,mode=min", "mode= is given twice"),
    (f"{REF},max-records=0", "max-records=0: expected a number above 0"),
    (f"{REF},max-records=-1", "max-records=-1: expected a number above 0"),
    (f"{REF},max-records=1k", "max-records=1k: expected a number above 0"),
    (f"{REF},max-records=", "max-records=: expected a number above 0"),
    (f"{REF},max-records={'9' * 19}", f"max-records={'9' * 19}: expected a number above 0"),
    (f"{REF},max-size=0", "max-size=0: expected a size above 0"),
    (f"{REF},max-size=many", "max-size=: invalid size 'many'; for instance 64m or 1g"),
    (f"{REF},max-size=", "max-size=: invalid size ''; for instance 64m or 1g"),
    (f"{REF},compression=lz4", "compression=lz4: it can be uncompressed, gzip, zstd"),
    (f"{REF},compression=estargz", "compression=estargz: it can be uncompressed, gzip, zstd"),
    (f"{REF},compression-level=9", "compression-level=: each compression has one level; leave it out"),
    (f"{REF},force-compression=true", "force-compression=true: layers of base images stay as their registry has them; leave it out"),
    (f"{REF},oci-mediatypes=false", "oci-mediatypes=false: a cache has OCI's media types; leave it out"),
    (f"{REF},image-manifest=false", f"image-manifest=false: {ARTIFACT}"),
    (f"{REF},oci-artifact=true", f"oci-artifact=true: {ARTIFACT}"),
    (f"{REF},oci-artifact=x", "oci-artifact=x: it can be true or false"),
    (f"{REF},registry.insecure=true", "registry.insecure=: write --tls-verify=false"),
    (f"{REF},ignore-error=maybe", "ignore-error=maybe: it can be true or false"),
    (f"{REF},mounts=", "mounts=: an id is empty; it can be all, or ids of cache mounts"),
    (f'{REF},"mounts=pip,"', "mounts=: an id is empty; it can be all, or ids of cache mounts"),
    (f'{REF},"mounts=pip,all"', "mounts=all covers all cache mounts: leave out the ids"),
    (f"{REF},mounts=pip,npm", 'a value with commas is quoted together with its key: "mounts=pip,npm"'),
    (f"{REF},mounts=pip,mounts=npm", "mounts= is given twice"),
    (f"{REF},dest=d", f"unknown key 'dest'; type=registry takes type, ref, {TO_KEYS}"),
    (f"{REF},tag=x", f"unknown key 'tag'; type=registry takes type, ref, {TO_KEYS}"),
    ("type=local", "expected dest=DIRECTORY"),
    ("type=local,dest=-", "expected dest=DIRECTORY"),
    ("type=local,src=d", "--cache-to writes to dest=DIRECTORY; src= is a key of --cache-from"),
    (f"{DIRECTORY},ref=app", f"unknown key 'ref'; type=local takes type, dest, tag, {TO_KEYS}"),
    (f"{DIRECTORY},tag=:", f"tag=:: {TAG}"),
    ("type=inline,mode=max", "an image has only its own layers: for mode=max write type=registry or type=local"),
    ("type=inline,compression=zstd", "unknown key 'compression'; type=inline takes type, mode"),
    ("type=inline,ref=app", "unknown key 'ref'; type=inline takes type, mode"),
    ("type=inline,ignore-error=true", "unknown key 'ignore-error'; type=inline takes type, mode"),
    (f'{REF},"mounts=pip', "unexpected end of data"),
]  # fmt: skip


def message_of(option: str, *texts: str) -> str:
    with pytest.raises(click.UsageError) as caught:
        (parse_cache_imports if option == "--cache-from" else parse_cache_exports)(texts)
    return caught.value.message


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [("--cache-from", *case) for case in IMPORTS_REFUSED] + [("--cache-to", *case) for case in EXPORTS_REFUSED],
)
def test_other_values_are_usage_errors_that_show_the_value(option: str, text: str, message: str) -> None:
    assert message_of(option, text) == f"{option} {text}: {message}"


@pytest.mark.parametrize("option", ["--cache-from", "--cache-to"])
def test_an_empty_value_is_a_usage_error(option: str) -> None:
    for text in ("", ","):
        assert message_of(option, text) == f"{option}: empty value"


@pytest.mark.parametrize(
    ("first", "second", "place"),
    [
        (REF, f"{REF},mode=max", "r.test/app:cache"),
        ("app", "type=registry,ref=docker.io/library/app:latest", "app:latest"),
        ("type=local,dest=/c", "type=local,dest=/x/../c/,tag=latest", "/c"),
        ("type=inline", "type=inline,mode=min", "the image"),
    ],
)
def test_two_caches_in_one_place_are_refused(first: str, second: str, place: str) -> None:
    assert message_of("--cache-to", first, second) == f"--cache-to {second}: {place} is given twice"


def test_a_name_twice_in_one_value_is_refused() -> None:
    assert message_of("--cache-to", "app,app:latest") == "--cache-to app,app:latest: app:latest is given twice"


@pytest.mark.parametrize(
    ("outputs", "tags", "refused"),
    [
        ([RegistryOutput()], ["r.test/app:cache"], True),
        ([RegistryOutput()], ["r.test/app:1", "r.test/app:cache"], True),
        ([RegistryOutput((CACHE.name,))], [], True),
        ([RegistryOutput((Reference.parse("r.test/app:1"),))], ["r.test/app:cache"], False),
        ([RegistryOutput()], ["r.test/app:1"], False),
        ([LocalOutput("out")], ["r.test/app:cache"], False),
    ],
)
def test_a_cache_does_not_replace_the_image(outputs: list[Output], tags: list[str], refused: bool) -> None:
    exports = (CacheExport(InlineCache()), CacheExport(local("d")), CacheExport(CACHE))
    names = [Reference.parse(tag) for tag in tags]
    if not refused:
        refuse_overwriting(exports, outputs, names)
        return
    with pytest.raises(click.UsageError) as caught:
        refuse_overwriting(exports, outputs, names)
    assert caught.value.message == (
        "--cache-to: r.test/app:cache is the image of this build, which the cache would replace:"
        " give the cache another tag, or write --cache-to type=inline"
    )


@pytest.mark.parametrize(
    ("value", "inline"),
    [("1", True), ("true", True), ("T", True), ("0", False), ("False", False), ("", False), (None, False)],
)
def test_an_argument_of_buildkit_asks_for_an_inline_cache(value: str | None, inline: bool) -> None:
    args = {} if value is None else {"BUILDKIT_INLINE_CACHE": value}
    added = (CacheExport(InlineCache()),) if inline else ()
    assert with_inline_cache((), args) == added
    assert with_inline_cache((CacheExport(CACHE),), args) == (CacheExport(CACHE), *added)
    assert with_inline_cache((CacheExport(InlineCache()),), args) == (CacheExport(InlineCache()),)


def test_another_value_of_the_argument_is_a_usage_error() -> None:
    with pytest.raises(click.UsageError) as caught:
        with_inline_cache((), {"BUILDKIT_INLINE_CACHE": "yes"})
    assert caught.value.message == "--build-arg BUILDKIT_INLINE_CACHE=yes: it can be 1 or 0"


@pytest.mark.parametrize("option", [CACHE_FROM, CACHE_TO])
def test_the_command_gets_every_text_of_an_option(option: click.Option) -> None:
    (name,) = option.opts
    command = click.Command("build", params=[option])
    with command.make_context("build", [name, "a", f"{name}=type=local,src=b"]) as ctx:
        assert ctx.params == {name.removeprefix("--").replace("-", "_"): ("a", "type=local,src=b")}
