"""pybuild history: what each instruction added to an image."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from pybuild.builder.plan.history import instruction_of
from pybuild.named_image import open_images
from pybuild.options.arguments import image_platform_option, tls_verify_option
from pybuild.options.completion import complete_images
from pybuild.options.listing import ListingOptions, counted, listing_options, shown_path
from pybuild.progress.formatting import one_line
from pybuild.report import printable
from pybuild.store.formats.oci_config import normalise_history
from pybuild.store.layers.sizes import largest_in_layer
from pybuild.values.sizes import human_size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pybuild.store.formats.oci_config import History
    from pybuild.store.formats.platform import Platform
    from pybuild.store.importing.archived import ImageLayer, ReadableImage
    from pybuild.store.layers.sizes import ListedChange
    from pybuild.store.layers.waste import LayerChanges


@click.command(params=[*listing_options(), image_platform_option(), tls_verify_option()])
@click.argument("name", shell_complete=complete_images)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, with all sizes in bytes.")
@click.option(
    "--files",
    "with_files",
    is_flag=True,
    help="List what each layer adds (A), changes (C) and deletes (D), with sizes.",
)
@click.option(
    "--waste", is_flag=True, help="List instead what later layers overwrite or delete, and files that are there twice."
)
@click.pass_obj
def history(
    root: str,
    name: str,
    as_json: bool,
    with_files: bool,
    waste: bool,
    sort: str | None,
    most: int | None,
    depth: int | None,
    platform: Platform | None,
    tls_verify: bool,
) -> int:
    """Show the instructions and layers of an image, oldest first.

    NAME is an image of the store, or one that is not imported: oci-archive:FILE, docker-archive:FILE or oci:DIR, with
    :NAME behind it if there are several.

    The size of a layer is that of its blob, the size of a file that of its content. With --sort size the files that
    take or hide most come first; -n N then lists the N largest of each layer.
    """
    options = ListingOptions(sort, most, depth)
    if waste and with_files:
        raise click.UsageError("--files and --waste exclude each other")
    if options.given and not (with_files or waste):
        raise click.UsageError("--sort, -n and --depth are about files: add --files or --waste")
    with open_images(root, name, platform=platform, tls_verify=tls_verify) as (image,):
        if waste:
            from pybuild.commands.waste import show_waste

            show_waste(image, options, as_json=as_json)
            return 0
        if not as_json:
            click.echo(f"{'SIZE':>9}  {'CREATED':<20}  {'LAYER':<12}  INSTRUCTION")
        changes = iter(_changes(image)) if with_files else None
        layers = iter(image.layers)
        for line in normalise_history(image.config).history:
            layer = None if line.empty_layer else next(layers)
            files = next(changes) if changes is not None and layer is not None else None
            _show(line, layer, files, options, with_files=with_files, as_json=as_json)
    return 0


def _changes(image: ReadableImage) -> Iterable[LayerChanges]:
    from pybuild.store.layers.waste import layer_changes  # a local import: without --files it is not needed

    return layer_changes(image.tables())


def _show(
    line: History,
    layer: ImageLayer | None,
    files: LayerChanges | None,
    options: ListingOptions,
    *,
    with_files: bool,
    as_json: bool,
) -> None:
    instruction = instruction_of(line.created_by)
    lines = [] if files is None else options.arranged(files.lines, largest_in_layer)
    shown = lines[: options.most]
    if as_json:
        row: dict[str, object] = {
            "created": line.created,
            "instruction": instruction,
            "layer": str(layer.digest) if layer and layer.digest else None,
            "diff_id": str(layer.diff_id) if layer else None,
            "size": layer.size if layer else 0,
        }
        if with_files:
            row["content"] = files.content if files else 0
            row["hidden"] = files.hidden if files else 0
            row["files"] = [_fields(found) for found in shown]
        click.echo(json.dumps(row))
        return
    size = human_size(layer.size) if layer else ""
    digest = "" if layer is None else (layer.digest or layer.diff_id).hex[:12]
    click.echo(f"{size:>9}  {(line.created or '')[:20]:<20}  {digest:<12}  {one_line(instruction)}")
    for found in shown:
        click.echo(_line(found))
    if files is not None and (files.lines or files.content):
        click.echo(f"{human_size(files.content):>9}  {_summary(files, len(lines) - len(shown))}")


def _line(found: ListedChange) -> str:
    size = human_size(found.size) if found.size else ""
    paths = f"  ({counted(found.paths, 'path')})" if found.difference is None else ""
    hides = f"  (hides {human_size(found.hides)} of lower layers)" if found.hides else ""
    return f"{size:>9}  {found.change.value} {printable(shown_path(found.path))}{paths}{hides}"


def _summary(files: LayerChanges, left_out: int) -> str:
    """The line below the files of a layer."""
    more = f" ({counted(left_out, 'line')} not shown)" if left_out else ""
    hidden = f"; later layers hide {human_size(files.hidden)} of it" if files.hidden else ""
    return f"in all{more}{hidden}"


def _fields(found: ListedChange) -> dict[str, object]:
    fields: dict[str, object] = {"change": found.change.value, "path": shown_path(found.path), "size": found.size}
    if found.hides:
        fields["hides"] = found.hides
    return fields if found.difference is not None else {**fields, "paths": found.paths}
