"""The verbs for the store itself: fsck, reset."""

from __future__ import annotations

import click

from pybuild.builder.steps.removal import remove, sweep_all
from pybuild.builder.workers.pool import Pool
from pybuild.store.maintenance.fsck import check
from pybuild.store.store import Store
from pybuild.store.store import reset as reset_store


@click.command()
@click.pass_obj
def fsck(root: str) -> int:
    """Check the store for damage.

    fsck compares the database with the files, and every blob with its digest.
    """
    with Store(root) as store:
        if store.unswept:
            with Pool() as pool:
                sweep_all(store, pool)
        report = check(store)
    for problem in report.damage:
        click.echo(f"damaged: {problem}")
    for name in report.garbage:
        click.echo(f"left over: {name}")
    click.echo(f"{report.checked} objects checked, {len(report.damage)} damaged, {len(report.garbage)} left over")
    return 1 if report.damage else 0


@click.command()
@click.pass_obj
def reset(root: str) -> int:
    """Delete the store and everything in it."""
    reset_store(root, remove)
    return 0
