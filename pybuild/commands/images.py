"""The verbs for images in the store: images, tag, rmi, inspect, import, export."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import click

from pybuild.builder.events import Exported, Note, Pushed
from pybuild.options.arguments import (
    all_platforms_option,
    image_platform_option,
    platform_option,
    tls_verify_option,
)
from pybuild.options.completion import complete_files, complete_images
from pybuild.options.outputs import output_option, parse_outputs
from pybuild.progress import human_size
from pybuild.progress.formatting import pushed_line
from pybuild.report import printable
from pybuild.signals import outlast
from pybuild.store.errors import InvalidImage
from pybuild.store.exporting.publish import STDOUT
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.reference import Reference
from pybuild.store.importing.archive import ALL_PLATFORMS, import_archive
from pybuild.store.importing.archive_file import STDIN
from pybuild.store.objects.indexes import StoredIndex
from pybuild.store.store import Access, Store

if TYPE_CHECKING:
    from pybuild.builder.events import Event
    from pybuild.store.objects.images import StoredImage
    from pybuild.store.objects.names import Tag


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.pass_obj
def images(root: str, as_json: bool) -> int:
    """List the images in the store.

    "not here" are layers that are still in their registry, because no build has needed their files: `pybuild fetch` brings
    them.
    """
    with Store(root, Access.READ) as store:
        tags = store.images.tags()
        named = {tag.manifest for tag in tags}
        rows: list[tuple[str, Digest, Tag | None]] = [
            (Reference.parse(tag.name).familiar, tag.manifest, tag) for tag in tags
        ]
        rows += [("<none>", digest, None) for digest in store.images.all() if digest not in named]
        if not as_json:
            click.echo(f"{'NAME':<40} {'DIGEST':<14} {'LAYERS':>6} {'SIZE':>9}  {'TAGGED':<16}  PLATFORM")
        last = None
        for name, digest, tag in rows:
            image = store.images.get(digest)
            index = tag.part_of if tag is not None else None
            if as_json:
                click.echo(json.dumps(_image_fields(store, name, image, tag)))
                continue
            if index is not None and (name, index) != last:
                members = [store.images.get(other.manifest) for other in tags if other.part_of == index]
                same = {one.manifest_digest: one for one in members}
                click.echo(_image_line(store, name, index, list(same.values()), tag, f"{len(same)} platforms"))
            last = name, index
            shown = f"  {image.exact_platform}" if index is not None else name
            click.echo(_image_line(store, shown, digest, [image], tag, str(image.exact_platform)))
    return 0


def _image_fields(store: Store, name: str, image: StoredImage, tag: Tag | None) -> dict[str, object]:
    layers = image.manifest.layers
    return {
        "name": name,
        "digest": str(image.manifest_digest),
        "layers": len(layers),
        "size": sum(layer.size for layer in layers),
        "not_here": sum(layer.size for layer in layers if not store.blobs.has(layer.digest)),
        "tagged": tag.at if tag is not None else None,
        "platform": str(image.exact_platform),
        "index": str(tag.part_of) if tag is not None and tag.part_of is not None else None,
    }


def _image_line(
    store: Store, name: str, digest: Digest, images: list[StoredImage], tag: Tag | None, platform: str
) -> str:
    """The line of an image, or of an index with all its images, whose layers count once."""
    layers = {layer.digest: layer.size for image in images for layer in image.manifest.layers}
    absent = sum(size for one, size in layers.items() if not store.blobs.has(one))
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(tag.at)) if tag is not None else ""
    count = len(layers) if len(images) > 1 else len(images[0].manifest.layers)
    note = f"  {human_size(absent)} not here" if absent else ""
    size = human_size(sum(layers.values()) if len(images) > 1 else sum(one.size for one in images[0].manifest.layers))
    line = f"{name:<40} {digest.short:<14} {count:>6} {size:>9}  {when:<16}  {platform}{note}"
    return printable(line)  # the platform is a text of the image


@click.command()
@click.argument("source", shell_complete=complete_images)
@click.argument("name")
@click.pass_obj
def tag(root: str, source: str, name: str) -> int:
    """Give the image SOURCE another name, NAME; if SOURCE is a name, also its images of other platforms."""
    with Store(root) as store:
        whole, reference = store.indexes.find(source)
        if isinstance(whole, StoredIndex):
            store.seal()
            store.indexes.tag([Reference.parse(name)], whole, int(time.time()), recipe=f"tag {source}")
            return 0
        tags = store.images.tags_of(reference) if reference is not None else []
        images = [store.images.get(tag.manifest) for tag in reversed(tags)] or [whole]
        store.seal()
        for one in images:  # all platforms of the name, the newest last
            store.images.tag([Reference.parse(name)], one, int(time.time()), recipe=f"tag {source}")
    return 0


@click.command()
@click.argument("names", nargs=-1, required=True, shell_complete=complete_images)
@click.pass_obj
def rmi(root: str, names: tuple[str, ...]) -> int:
    """Remove names of images.

    An image whose last name is removed is removed too; its layers stay in the cache until gc removes them. A name is
    removed from its images of all platforms; a digest is one image, or an index with all its images.
    """
    with Store(root, Access.FREE) as store:
        for name in names:
            found, reference = store.indexes.find(name)
            if isinstance(found, StoredIndex) and reference is None:
                _remove_index(store, name, found)
                continue
            digest = store.images.find(name).manifest_digest
            names_of_image = [Reference.parse(tag.name) for tag in store.images.tags() if tag.manifest == digest]
            # The name itself; or, if NAME is a digest, all names.
            removed = [reference for reference in names_of_image if reference == _reference(name)] or names_of_image
            if len(removed) > 1:
                several = ", ".join(reference.familiar for reference in names_of_image)
                raise click.UsageError(f"{name} has several names: {several}")
            by_name = _reference(name) in removed
            gone = store.freeing(partial(store.images.untag, removed, digest, int(time.time()), all_platforms=by_name))
            for reference in removed:
                click.echo(f"untagged {reference.familiar}")
            for removed_digest in gone:
                click.echo(f"removed {removed_digest}")
    return 0


def _remove_index(store: Store, name: str, index: StoredIndex) -> None:
    """Remove an index that is named by its digest: its name, if it has one, and its images, if they have no other name."""
    names = {Reference.parse(tag.name) for tag in store.images.tags() if tag.part_of == index.digest}
    if len(names) > 1:
        several = ", ".join(sorted(reference.familiar for reference in names))
        raise click.UsageError(f"{name} has several names: {several}")
    gone: dict[Digest, None] = {}
    for image in index.images:
        work = partial(store.images.untag, list(names), image.manifest_digest, int(time.time()), all_platforms=True)
        gone.update(dict.fromkeys(store.freeing(work)))
    for reference in names:
        click.echo(f"untagged {reference.familiar}")
    for digest in gone:
        click.echo(f"removed {digest}")


def _reference(name: str) -> Reference | None:
    """The name with its default tag; None if it can only be a digest."""
    try:
        return Reference.parse(name).with_default_tag()
    except InvalidImage:
        return None


@click.command(params=[image_platform_option()])
@click.argument("name", shell_complete=complete_images)
@click.pass_obj
def inspect(root: str, name: str, platform: Platform | None) -> int:
    """Show the manifest and config of an image as JSON; `pybuild index inspect` shows an index.

    NAME is an image of the store, or one that is not imported: oci-archive:FILE, docker-archive:FILE or oci:DIR, with
    :NAME behind it if there are several.
    """
    from pybuild.named_image import open_images  # a local import: the other commands here do not need it

    with open_images(root, name, platform=platform) as (image,):
        fields: dict[str, object] = {
            "digest": str(image.digest) if image.digest else None,
            "platform": str(image.config.platform),
            "names": list(image.names),
            "manifest": json.loads(image.manifest.to_bytes()) if image.manifest else None,
            "config": json.loads(image.config.to_bytes()),
        }
        click.echo(json.dumps(fields, indent=2, ensure_ascii=False))
    return 0


@click.command(
    "import",
    params=[
        platform_option("Which image to import if several differ only in their platform."),
        all_platforms_option("Import all images of an index: the name stands for all of them."),
    ],
)
@click.argument("archive", shell_complete=complete_files)
@click.argument("name", required=False)
@click.pass_obj
def import_(root: str, archive: str, name: str | None, platform: Platform | None, all_platforms: bool) -> int:
    """Import images into the store.

    Their digests go to standard output.

    ARCHIVE is an OCI archive or layout directory, an archive from `docker save` or `podman save`, or the tar of a root
    filesystem; it can be compressed with gzip, zstd, xz or bzip2. - is standard input. NAME names the image in the
    store, and selects one if ARCHIVE contains several; without NAME, the names in ARCHIVE are used. A root filesystem
    needs NAME.
    """
    reference = Reference.parse(name).with_default_tag() if name is not None else None
    if reference is not None and reference.digest is not None:
        raise click.UsageError(f"{name}: NAME cannot contain a digest, because the imported content determines it")
    if archive == STDIN and sys.stdin.isatty():
        raise click.UsageError("standard input is a terminal; pipe an archive into it")
    with Store(root) as store:
        wanted = ALL_PLATFORMS if all_platforms else platform
        for digest, names in import_archive(store, archive, reference, int(time.time()), wanted):
            click.echo(str(digest))
            for given in names:
                click.echo(f"imported {given.familiar}", err=True)
    return 0


@click.command(
    params=[
        output_option(required=True),
        image_platform_option(),
        all_platforms_option("Write all images that NAME stands for, as one index."),
        tls_verify_option(),
    ]
)
@click.argument("name", shell_complete=complete_images)
@click.pass_obj
def export(
    root: str,
    name: str,
    output: tuple[str, ...],
    platform: Platform | None,
    all_platforms: bool,
    tls_verify: bool,
) -> int:
    """Write an image to archives, directories or registries; an index with all its images, or the one for --platform.

    NAME is an image of the store, or one that is not imported: oci-archive:FILE, docker-archive:FILE or oci:DIR, with
    :NAME behind it if there are several.

    Layers are written as they are in the store. compression= compresses all of them again, so the digest of the
    manifest changes.
    """
    from pybuild.named_image import image_to_export  # a local import: the other commands here do not need it

    outputs = parse_outputs(output, built=False)
    with image_to_export(root, name, platform, all_platforms=all_platforms) as image:
        image.export(*outputs, on_event=_print_event, tls_verify=tls_verify, complete=outlast)
    return 0


def _print_event(event: Event) -> None:
    match event:
        case Note(text=text):
            click.echo(f"note: {text}", err=True)
        case Exported(destination=destination, manifest=manifest):
            where = "standard output" if destination == STDOUT else destination
            click.echo(f"exported {manifest} to {where}", err=True)
        case Pushed():
            click.echo(pushed_line(event), err=True)
        case _:
            pass
