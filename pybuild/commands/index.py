"""pybuild index: put images for several platforms together into one."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import click

from pybuild.builder.annotations import Level
from pybuild.builder.errors import UnclearPlace
from pybuild.builder.events import ignore
from pybuild.builder.output.push import push as run_push
from pybuild.builder.sources.registry_access import registry_access
from pybuild.builder.transfer.combine import add, create, gather_images, remove
from pybuild.builder.transfer.places import StorePlace, parse_place
from pybuild.builder.transfer.source import opened_source
from pybuild.builder.transfer.workshop import CopyWorkshop
from pybuild.options.arguments import name_and_value, platforms_option, tls_verify_option
from pybuild.options.completion import complete_images
from pybuild.progress import kind_for, progress_for
from pybuild.store.errors import InvalidImage
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import INDEXES
from pybuild.store.formats.oci_manifest import Index
from pybuild.store.formats.reference import Reference
from pybuild.store.objects.indexes import StoredIndex
from pybuild.store.store import Store
from pybuild.values.limits import MANIFEST_BYTES

if TYPE_CHECKING:
    from pybuild.builder.transfer.places import CopyPlace
    from pybuild.store.formats.platform import Platform


@click.group()
def index() -> None:
    """Put images for several platforms together into one image.

    An index is in the store, under one name that stands for all its images. `pybuild push`, `export` and `copy` write it
    whole.
    """


def _options() -> list[click.Option]:
    return [
        platforms_option("Take only the images for these platforms.", default="all"),
        click.Option(["--annotation"], multiple=True, metavar="KEY=VALUE", help="An annotation of the index. Can be repeated."),
        click.Option(["--push"], is_flag=True, help="Send the index to the registry of NAME as well."),
        tls_verify_option(),
        click.Option(["-q", "--quiet"], is_flag=True, help="Show only the digest, and errors."),
    ]  # fmt: skip


@index.command("create", params=_options())
@click.argument("name")
@click.argument("sources", nargs=-1, required=True, shell_complete=complete_images)
@click.pass_context
def create_(
    ctx: click.Context, name: str, sources: tuple[str, ...], platforms: tuple[Platform, ...],
    annotation: tuple[str, ...], push: bool, tls_verify: bool, quiet: bool,
) -> int:  # fmt: skip
    """Make an index of the images at all SOURCEs, called NAME; what had this name loses it.

    SOURCE is the name or digest of an image of the store, or a place: docker://NAME, oci:DIR[:NAME],
    oci-archive:FILE[:NAME] or docker-archive:FILE[:NAME]. Of an index all images are taken, or those for --platform, with
    the annotations of their entries; those of the index itself are kept if it is the only SOURCE. The digest of the index
    goes to standard output.
    """
    return _change(ctx, False, name, sources, platforms, annotation, push=push, tls_verify=tls_verify, quiet=quiet)


@index.command("add", params=_options())
@click.argument("name", shell_complete=complete_images)
@click.argument("sources", nargs=-1, required=True, shell_complete=complete_images)
@click.pass_context
def add_(
    ctx: click.Context, name: str, sources: tuple[str, ...], platforms: tuple[Platform, ...],
    annotation: tuple[str, ...], push: bool, tls_verify: bool, quiet: bool,
) -> int:  # fmt: skip
    """Add the images at all SOURCEs to NAME, each in place of the one for the same platform.

    NAME is an index or an image of the store; SOURCE is as for `create`. The digest of the index goes to standard output.
    """
    return _change(ctx, True, name, sources, platforms, annotation, push=push, tls_verify=tls_verify, quiet=quiet)


@index.command()
@click.argument("name", shell_complete=complete_images)
@click.argument("which", nargs=-1, required=True, metavar="PLATFORM|DIGEST...")
@click.pass_obj
def rm(root: str, name: str, which: tuple[str, ...]) -> int:
    """Remove images from the index NAME.

    Each is named by its platform, its digest or the first digits of it. The digest of the new index goes to standard output.
    """
    with Store(root) as store:
        click.echo(str(remove(store, _name(name), which).digest))
    return 0


@index.command(params=[tls_verify_option()])
@click.argument("name", shell_complete=complete_images)
@click.option("--raw", is_flag=True, help="Print the index as it is, byte for byte.")
@click.pass_obj
def inspect(root: str, name: str, raw: bool, tls_verify: bool) -> int:
    """Show an index as JSON: its digest, its annotations and its images.

    NAME is a name or a digest of the store, or a place, as SOURCE of `create`. If the name was given to one image after the
    other, it is the index that `push --all-platforms` would send.
    """
    place = _place(name)
    with CopyWorkshop(root, ignore, writes=False) as work:
        if isinstance(place, StorePlace):
            found, _, _ = work.store.indexes.all_images(place.name)
            read = found.index if isinstance(found, StoredIndex) else found
            if not isinstance(read, Index):
                raise _no_index(name)
            data = (
                work.store.blobs.read(found.digest, MANIFEST_BYTES)
                if isinstance(found, StoredIndex)
                else read.to_bytes()
            )
        else:
            access = registry_access(os.environ, work.ingest, tls_verify=tls_verify)
            with opened_source(place, None, access, work) as source:
                root_document = source.graph.root
                if root_document.descriptor.media_type not in INDEXES:
                    raise _no_index(name)
                data = root_document.data
                read = Index.from_bytes(data)
    if raw:
        sys.stdout.buffer.write(data)
        return 0
    fields = {
        "digest": str(Digest.of(data)),
        "mediaType": read.media_type,
        "annotations": dict(read.annotations),
        "images": [
            {
                "platform": str(entry.platform) if entry.platform is not None else None,
                "digest": str(entry.digest),
                "mediaType": entry.media_type,
                "size": entry.size,
                "annotations": dict(entry.annotations),
            }
            for entry in read.manifests
        ],
    }
    click.echo(json.dumps(fields, indent=2, ensure_ascii=False))
    return 0


def _change(
    ctx: click.Context,
    adds: bool,
    name: str,
    sources: tuple[str, ...],
    platforms: tuple[Platform, ...],
    annotations: tuple[str, ...],
    *,
    push: bool,
    tls_verify: bool,
    quiet: bool,
) -> int:
    """Create an index, or add to one."""
    target = _name(name)
    given = dict(_annotation(text) for text in annotations)
    places = [_place(source) for source in sources]
    kind = kind_for("quiet" if quiet else "auto", os.environ, terminal=sys.stderr.isatty())
    with closing(progress_for(kind, None)) as display, CopyWorkshop(ctx.obj, display, writes=True) as work:
        work.open_store()
        gathered = gather_images(places, platforms, os.environ, work, tls_verify=tls_verify)
        made = (add if adds else create)(work.store, target, gathered, given)
        if push:
            access = registry_access(os.environ, work.ingest, tls_verify=tls_verify)
            run_push(work.store, work.pool, made, [target], access, display)
    click.echo(str(made.digest))
    return 0


def _annotation(text: str) -> tuple[str, str]:
    """KEY=VALUE or index:KEY=VALUE. Raises click.UsageError for another level: images and their entries stay as they are."""
    name, value = name_and_value(text, "--annotation")
    level, colon, key = name.partition(":")
    if not colon:
        return name, value
    if level != Level.INDEX.value or not key:
        raise click.UsageError(
            f"--annotation {text}: expected KEY=VALUE or index:KEY=VALUE, an annotation of the index"
        )
    return key, value


def _name(text: str) -> Reference:
    """The name of an index. Raises click.UsageError for a digest."""
    name = Reference.parse(text).with_default_tag()
    if name.digest is not None:
        raise click.UsageError(f"{text}: NAME cannot contain a digest, because the images determine it")
    return name


def _place(text: str) -> CopyPlace:
    """A place; a name without a prefix is one of the store."""
    try:
        return parse_place(text)
    except UnclearPlace:
        return StorePlace(text)


def _no_index(name: str) -> InvalidImage:
    return InvalidImage(f"{name} is one image, not an index", hint="pybuild inspect shows it")
