"""pybuild cache: what is in a cache for other machines, and removing what was not used lately."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import click

from pybuild.builder.cache_places import CacheExport, LocalCache, RegistryCache
from pybuild.builder.errors import BuildError
from pybuild.builder.events import CacheExported, Note
from pybuild.builder.workers.pool import Pool
from pybuild.options.arguments import platform_option, size_option, tls_verify_option
from pybuild.options.listing import counted
from pybuild.progress import human_size, kind_for, progress_for
from pybuild.report import printable
from pybuild.store.errors import InvalidImage
from pybuild.store.formats.cache_index import CacheIndex
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.reference import Reference
from pybuild.store.importing.archived import ArchiveKind, archive_place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.builder.caches.find import ReadCache
    from pybuild.builder.events import Event
    from pybuild.store.formats.cache_index import CachedMount, CacheRecord

_REGISTRY = "docker://"
_SHORT_KEY = 12
_MOST_TEXT = 60  # characters of a step on one line


@click.group()
def cache() -> None:
    """Inspect and shrink caches for other machines, as --cache-to writes them.

    PLACE is docker://NAME or NAME, an image of a registry, or oci:DIR[:TAG] or DIR, an OCI layout. (`pybuild build cache`
    builds a directory with this name.)
    """


@cache.command(
    "ls",
    params=[platform_option("Of an index of images, the one to read.", default="this machine's"), tls_verify_option()],
)
@click.argument("place")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def ls(place: str, platform: Platform | None, tls_verify: bool, as_json: bool) -> int:
    """List the steps whose results are in the cache at PLACE, and its cache mounts, those first that were used last.

    SIZE is that of the layer, which can be shared by several steps. An image with an inline cache can be listed too.
    """
    from pybuild.builder.caches.find import NoCache, cache_reader
    from pybuild.builder.caches.read import no_cache_text
    from pybuild.store.objects.ingest import IngestElsewhere

    where = _place(place)
    with IngestElsewhere() as ingest, Pool(_show_note) as pool:
        reader = cache_reader(ingest, pool, _show, tls_verify=tls_verify, platform=platform or Platform.host())
        found = reader.read(where)
    if isinstance(found, NoCache):
        raise BuildError(no_cache_text(where, found))
    if as_json:
        click.echo(json.dumps(_fields(found)))
    else:
        for line in _lines(found):
            click.echo(line)
    return 0


@cache.command(
    "prune",
    params=[platform_option("The platform of the cache.", default="this machine's"), tls_verify_option()],
)
@click.argument("place")
@click.option("--max-records", type=click.IntRange(min=0), metavar="N", help="Keep at most N steps.")
@click.option("--max-size", metavar="SIZE", help="Keep layers of at most SIZE (10g, 500m) together.")
@click.option("-q", "--quiet", is_flag=True, help="Show only errors.")
@click.pass_obj
def prune(
    root: str,
    place: str,
    platform: Platform | None,
    tls_verify: bool,
    max_records: int | None,
    max_size: str | None,
    quiet: bool,
) -> int:
    """Remove from the cache at PLACE what was used longest ago, with all that stands on it.

    --max-size covers cache mounts too, --max-records steps alone.

    A directory gets smaller at once. A registry frees layers when it collects its garbage. An image is never changed, not
    even if it carries a cache.
    """
    from pybuild.builder.cache_export.write import write_cache
    from pybuild.store.store import Access, Store

    size = size_option("--max-size", max_size)
    if max_records is None and size is None:
        raise click.UsageError("give --max-records, --max-size or both")
    where = _place(place)
    export = CacheExport(where, max_records=sys.maxsize if max_records is None else max_records, max_size=size)
    kind = kind_for("quiet" if quiet else "auto", os.environ, terminal=sys.stderr.isatty())
    with Store(root, Access.READ) as store, closing(progress_for(kind, None)) as display:

        def observe(event: Event) -> None:
            if not isinstance(event, CacheExported):  # the last line says it
                display(event)

        with Pool(lambda text: display(Note(text))) as pool:
            written = write_cache(
                export, CacheIndex(), lambda _: None, store, pool, observe,
                tls_verify=tls_verify, platform=platform or Platform.host(),
            )  # fmt: skip
    if written.digest is None:
        raise BuildError(f"there is no cache at {where} that can be read")
    if not quiet:
        removed, mounts = counted(written.earlier - written.records, "record"), ""
        if written.earlier_mounts:
            removed += f" and {counted(written.earlier_mounts - len(written.mounts), 'cache mount')}"
            mounts = f" and {len(written.mounts)}"
        click.echo(
            f"{removed} removed, {written.records}{mounts} left:"
            f" {counted(written.layers, 'layer')}, {human_size(written.sent + written.spared)}"
        )
    return 0


def _place(text: str) -> RegistryCache | LocalCache:
    """What a text names. Raises click.UsageError."""
    if not text.startswith(_REGISTRY):
        named = archive_place(text)
        if named is not None and named.kind is not ArchiveKind.OCI_LAYOUT:
            raise click.UsageError(f"{text}: a cache is in a registry or in a directory, oci:DIR[:TAG]")
        if named is not None:
            if not named.path:
                raise click.UsageError(f"{text}: the path is missing")
            path = os.path.abspath(named.path)
            return LocalCache(path, named.name) if named.name else LocalCache(path)
        if os.path.isdir(text):
            return LocalCache(os.path.abspath(text))
    try:
        return RegistryCache(Reference.parse(text.removeprefix(_REGISTRY)).with_default_tag())
    except InvalidImage as error:
        raise click.UsageError(f"{text}: neither a directory nor a name in a registry: {error}") from None


def _lines(found: ReadCache) -> Iterator[str]:
    records, layers = found.index.records, found.index.layers
    if records:
        yield f"{'STAGE':<16} {'SIZE':>9}  {'LAST USED':<16}  {'KEY':<{_SHORT_KEY}}  STEP"
    for record in _newest_first(records):
        stage, step = printable(record.step.stage), printable(record.step.instruction)
        size = "-" if record.layer is None else human_size(record.layer.size)
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.used))
        text = step if len(step) <= _MOST_TEXT else step[: _MOST_TEXT - 1] + "…"
        yield f"{stage:<16} {size:>9}  {used}  {record.canonical[:_SHORT_KEY]}  {text}"
    mounts = _mounts_newest_first(found)
    if mounts:
        yield f"{'CACHE MOUNT':<16} {'SIZE':>9}  {'LAST USED':<16}  {'KEY':<{_SHORT_KEY}}  NAME"
    for mount in mounts:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(mount.used))
        kind, size = "secret" if mount.secret else "", human_size(mount.layer.size)
        yield f"{kind:<16} {size:>9}  {used}  {mount.key[:_SHORT_KEY]}  {printable(mount.name)}"
    total = human_size(sum(layer.size for layer in layers))
    more = f", {counted(len(mounts), 'cache mount')}" if mounts else ""
    yield f"{counted(len(records), 'record')}, {counted(len(layers), 'layer')}{more}: {total}"


def _fields(found: ReadCache) -> dict[str, object]:
    return {
        "place": str(found.place),
        "manifest": str(found.digest),
        "image": not found.is_only_cache,
        "layers": len(found.index.layers),
        "size": sum(layer.size for layer in found.index.layers),
        "records": [
            {
                "stage": record.step.stage,
                "number": record.step.number,
                "instruction": record.step.instruction,
                "key": record.canonical,
                "created": record.created,
                "last_used": record.used,
                "layer": None if record.layer is None else str(record.layer.digest),
                "size": 0 if record.layer is None else record.layer.size,
            }
            for record in _newest_first(found.index.records)
        ],
        "mounts": [
            {
                "name": mount.name,
                "key": mount.key,
                "saved": mount.saved,
                "last_used": mount.used,
                "secret": mount.secret,
                "layer": str(mount.layer.digest),
                "size": mount.layer.size,
            }
            for mount in _mounts_newest_first(found)
        ],
    }


def _newest_first(records: tuple[CacheRecord, ...]) -> list[CacheRecord]:
    return sorted(records, key=lambda record: -record.used)


def _mounts_newest_first(found: ReadCache) -> list[CachedMount]:
    return sorted(found.index.mounts, key=lambda mount: (-mount.used, mount.name))


def _show(event: Event) -> None:
    if isinstance(event, Note):
        _show_note(event.text)


def _show_note(text: str) -> None:
    click.echo(f"note: {printable(text)}", err=True)
