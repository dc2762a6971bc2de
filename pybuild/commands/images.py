"""The verbs for images in the store: images, tag, rmi, inspect, import, export."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import click

from pybuild.builder.events import Exported, Note, Pushed
from pybuild.options.arguments import image_platform_option, platform_option, tls_verify_option
from pybuild.options.completion import complete_files, complete_images
from pybuild.options.outputs import output_option, parse_outputs
from pybuild.progress import human_size
from pybuild.progress.formatting import pushed_line
from pybuild.signals import outlast
from pybuild.store.errors import InvalidImage
from pybuild.store.exporting.publish import STDOUT
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.reference import Reference
from pybuild.store.importing.archive import import_archive
from pybuild.store.importing.archive_file import STDIN
from pybuild.store.store import Access, Store

if TYPE_CHECKING:
    from pybuild.builder.events import Event


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
        rows: list[tuple[str, Digest, int | None]] = [
            (Reference.parse(tag.name).familiar, tag.manifest, tag.at) for tag in tags
        ]
        rows += [("<none>", digest, None) for digest in store.images.all() if digest not in named]
        if not as_json:
            click.echo(f"{'NAME':<40} {'DIGEST':<14} {'LAYERS':>6} {'SIZE':>9}  {'TAGGED':<16}  PLATFORM")
        for name, digest, at in rows:
            image = store.images.get(digest)
            size = sum(layer.size for layer in image.manifest.layers)
            absent = sum(layer.size for layer in image.manifest.layers if not store.blobs.has(layer.digest))
            if as_json:
                fields = {
                    "name": name,
                    "digest": str(digest),
                    "layers": len(image.manifest.layers),
                    "size": size,
                    "not_here": absent,
                    "tagged": at,
                    "platform": str(image.platform),
                }
                click.echo(json.dumps(fields))
            else:
                when = time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) if at is not None else ""
                note = f"  {human_size(absent)} not here" if absent else ""
                click.echo(
                    f"{name:<40} {digest.short:<14} {len(image.manifest.layers):>6} {human_size(size):>9}  {when:<16}"
                    f"  {image.platform}{note}"
                )
    return 0


@click.command()
@click.argument("source", shell_complete=complete_images)
@click.argument("name")
@click.pass_obj
def tag(root: str, source: str, name: str) -> int:
    """Give the image SOURCE another name, NAME; if SOURCE is a name, also its images of other platforms."""
    with Store(root) as store:
        image, reference = store.images.find_named(source)
        tags = store.images.tags_of(reference) if reference is not None else []
        images = [store.images.get(tag.manifest) for tag in reversed(tags)] or [image]
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
    removed from its images of all platforms, a digest is one image.
    """
    with Store(root, Access.FREE) as store:
        for name in names:
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
    """Show the manifest and config of an image as JSON.

    NAME is an image of the store, or one that is not imported: oci-archive:FILE, docker-archive:FILE or oci:DIR, with
    :NAME behind it if there are several.
    """
    from pybuild.named_image import open_images  # a local import: the other commands here do not need it

    with open_images(root, name, platform=platform) as (image,):
        fields = {
            "digest": str(image.digest) if image.digest else None,
            "names": list(image.names),
            "manifest": json.loads(image.manifest.to_bytes()) if image.manifest else None,
            "config": json.loads(image.config.to_bytes()),
        }
        click.echo(json.dumps(fields, indent=2, ensure_ascii=False))
    return 0


@click.command("import", params=[platform_option("Which image to import if several differ only in their platform.")])
@click.argument("archive", shell_complete=complete_files)
@click.argument("name", required=False)
@click.pass_obj
def import_(root: str, archive: str, name: str | None, platform: Platform | None) -> int:
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
        for digest, names in import_archive(store, archive, reference, int(time.time()), platform):
            click.echo(str(digest))
            for given in names:
                click.echo(f"imported {given.familiar}", err=True)
    return 0


@click.command(params=[output_option(required=True), image_platform_option(), tls_verify_option()])
@click.argument("name", shell_complete=complete_images)
@click.pass_obj
def export(root: str, name: str, output: tuple[str, ...], platform: Platform | None, tls_verify: bool) -> int:
    """Write an image to archives, directories or registries.

    NAME is an image of the store, or one that is not imported: oci-archive:FILE, docker-archive:FILE or oci:DIR, with
    :NAME behind it if there are several.

    Layers are written as they are in the store. compression= compresses all of them again, so the digest of the
    manifest changes.
    """
    from pybuild.named_image import image_to_export  # a local import: the other commands here do not need it

    outputs = parse_outputs(output)
    with image_to_export(root, name, platform) as image:
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
