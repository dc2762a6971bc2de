"""pybuild gc."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import click

from pybuild.builder.maintenance import StoreDirectories
from pybuild.builder.steps.removal import sweep_all
from pybuild.builder.workers.pool import Pool
from pybuild.options.arguments import size_option
from pybuild.progress import human_size
from pybuild.store.maintenance.gc import Freed, collect
from pybuild.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command()
@click.option(
    "-a", "--all", "everything", is_flag=True,
    help="Also what no named image needs: cache records, images that never had a name, cache mounts.",
)  # fmt: skip
@click.option(
    "--keep-storage", metavar="SIZE",
    help="Also what exceeds SIZE (10g, 500m) of what --all would remove, the longest unused first.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@click.option("--json", "as_json", is_flag=True, help="Tell it as one JSON object.")
@click.pass_obj
def gc(root: str, everything: bool, keep_storage: str | None, dry_run: bool, as_json: bool) -> int:
    """Free what nothing in the store needs.

    That is what interrupted builds left, images whose names went to newer ones, and logs of builds that pybuild why does not
    remember any more. Images that have a name are always kept, and so is what a running build may use: it goes with the
    next gc after it.
    """
    if everything and keep_storage is not None:
        raise click.UsageError("--all and --keep-storage exclude each other")
    keep = 0 if everything else size_option("--keep-storage", keep_storage)
    with Store(root) as store, Pool() as pool:
        if store.unswept and not dry_run:
            sweep_all(store, pool)
        directories = StoreDirectories(store, pool)
        freed = collect(store, keep, directories.measure, directories.remove, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, **dataclasses.asdict(freed)}))
    else:
        for line in lines(freed, dry_run=dry_run):
            click.echo(line)
    if directories.not_removed:
        click.echo(
            f"note: {directories.not_removed} directories belong to ids that are out of reach here; pybuild doctor tells what is missing",
            err=True,
        )
    return 0


def lines(freed: Freed, *, dry_run: bool = False) -> Iterator[str]:
    """What was freed, for people."""
    counts = [
        (freed.images, "image", "images"),
        (freed.records, "cache record", "cache records"),
        (freed.layers, "layer", "layers"),
        (freed.blobs, "blob", "blobs"),
        (freed.cache_mounts, "cache mount", "cache mounts"),
        (freed.leftovers, "leftover", "leftovers"),
        (freed.logs, "log", "logs"),
    ]
    found = ", ".join(f"{count} {one if count == 1 else many}" for count, one, many in counts if count)
    yield f"{'would free' if dry_run else 'freed'} {human_size(freed.size)}{': ' + found if found else ''}"
    if freed.waiting:
        yield f"{human_size(freed.waiting)} more may be in use by what runs now; run gc again after that"
    yield f"{human_size(freed.kept)} kept"
