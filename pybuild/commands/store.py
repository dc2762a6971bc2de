"""The verbs for the store itself: fsck, reset."""

from __future__ import annotations

import os
import sys
from itertools import chain

import click

from pybuild.builder.events import ignore
from pybuild.builder.maintenance import StoreTrees, fetch_again
from pybuild.builder.options import Isolation
from pybuild.builder.sources.layers import LayerFetcher
from pybuild.builder.steps.removal import remove, sweep_all
from pybuild.builder.workers.pool import Pool
from pybuild.options.arguments import tls_verify_option
from pybuild.report import printable
from pybuild.store.maintenance.fsck import check
from pybuild.store.maintenance.reset import reset as reset_store
from pybuild.store.store import Access, Store


@click.command(params=[tls_verify_option()])
@click.option("--repair", is_flag=True, help="Make damaged objects again from other forms; drop the rest.")
@click.option("--deep", is_flag=True, help="Read the content of trees too, and expand every layer.")
@click.pass_obj
def fsck(root: str, repair: bool, deep: bool, tls_verify: bool) -> int:
    """Check the store for damage.

    fsck compares the database with the files, every blob with its digest, and every tree with its table of contents:
    names, types, modes, owners, times, sizes and links. With --deep it also compares the content of the files, and every
    table of contents with what its layer blob holds. With --repair no other pybuild may use the store at the same time;
    layers that are damaged, and that came from a registry or were pushed to one, are fetched from there.
    """
    old = None
    if repair:
        from pybuild.store.maintenance.tables import replace_damaged_tables

        old = replace_damaged_tables(root)
    with (
        Store(root, Access.FREE if repair else Access.READ) as store,
        Pool() as pool,
        Pool(isolation=Isolation.AUTO) as isolated,
    ):
        if store.unswept:
            sweep_all(store, pool)
        trees = StoreTrees(pool, isolated)
        if repair:
            from pybuild.store.maintenance.repair import repair as repair_store
            from pybuild.store.maintenance.tables import restore_images

            absent = store.changesets.absent_blobs()
            lines = chain(
                restore_images(store, old) if old is not None else (),
                repair_store(store, trees, deep=deep),
                fetch_again(LayerFetcher(store, pool, ignore, tls_verify), absent),
            )
            for line in lines:
                click.echo(f"repaired: {printable(line)}")
        report = check(store, trees, deep=deep)
    for problem in report.damage:
        click.echo(f"damaged: {printable(problem)}")
    for name in report.garbage:
        click.echo(f"left over: {printable(name)}")
    if report.not_compared:
        click.echo(f"not compared: {report.not_compared} trees, because their ids do not exist here", err=True)
    if report.damage and not repair:
        click.echo(
            "hint: pybuild fsck --repair drops damaged objects, and makes again what can be made again", err=True
        )
    click.echo(f"{report.checked} objects checked, {len(report.damage)} damaged, {len(report.garbage)} left over")
    return 1 if report.damage else 0


@click.command()
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def reset(root: str, yes: bool) -> int:
    """Delete the store and everything in it: images, cache and logs.

    On a terminal, reset asks first.
    """
    if not yes and sys.stdin.isatty() and os.path.isdir(root):
        click.confirm(f"Delete the store {printable(os.path.abspath(root))} with all its images?", abort=True, err=True)
    reset_store(root, remove)
    return 0
