"""pybuild gc: remove from the store what nothing needs."""

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
from pybuild.store.store import Access, Store

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command()
@click.option(
    "-a", "--all", "everything", is_flag=True,
    help="Also remove everything that no named image needs: cache records, images that never had a name, cache mounts.",
)  # fmt: skip
@click.option(
    "--keep-storage", metavar="SIZE",
    help="Also remove what --all would remove, longest unused first, until at most SIZE (10g, 500m) is kept.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.pass_obj
def gc(root: str, everything: bool, keep_storage: str | None, dry_run: bool, as_json: bool) -> int:
    """Remove from the store what nothing needs.

    It removes data of interrupted builds, images whose names moved to newer images, and logs of builds that pybuild why
    has forgotten. Images with a name are always kept. Data that a running build might use is kept too; the next gc
    after that build removes it.
    """
    if everything and keep_storage is not None:
        raise click.UsageError("--all and --keep-storage exclude each other")
    keep = 0 if everything else size_option("--keep-storage", keep_storage)
    with Store(root, Access.READ if dry_run else Access.FREE) as store, Pool() as pool:
        if store.unswept and not dry_run:
            sweep_all(store, pool)
        directories = StoreDirectories(store, pool)
        freed = store.freeing(lambda: collect(store, keep, directories.measure, directories.remove, dry_run=dry_run))
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, **dataclasses.asdict(freed)}))
    else:
        for line in _result_lines(freed, dry_run=dry_run):
            click.echo(line)
    if directories.not_removed:
        click.echo(
            f"note: {directories.not_removed} directories are left, because they belong to ids that this user cannot map;"
            " pybuild doctor shows what is missing",
            err=True,
        )
    return 0


def _result_lines(freed: Freed, *, dry_run: bool = False) -> Iterator[str]:
    """The result as text, in lines."""
    counts = [
        (freed.images, "image", "images"),
        (freed.records, "cache record", "cache records"),
        (freed.layers, "layer", "layers"),
        (freed.blobs, "blob", "blobs"),
        (freed.cache_mounts, "cache mount", "cache mounts"),
        (freed.leftovers, "leftover", "leftovers"),
        (freed.logs, "log", "logs"),
    ]
    parts = ", ".join(f"{count} {one if count == 1 else many}" for count, one, many in counts if count)
    yield f"{'would free' if dry_run else 'freed'} {human_size(freed.size)}{': ' + parts if parts else ''}"
    if freed.waiting:
        yield f"{human_size(freed.waiting)} more might be in use by running commands; run gc again when they have ended"
    yield f"{human_size(freed.kept)} kept"
