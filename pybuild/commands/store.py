"""The verbs for the store itself: fsck, reset."""

from __future__ import annotations

import click

from pybuild.builder.steps.removal import remove, sweep_all
from pybuild.builder.workers.pool import Pool
from pybuild.store.maintenance.fsck import check
from pybuild.store.store import Store
from pybuild.store.store import reset as reset_store


@click.command()
@click.option("--repair", is_flag=True, help="Make damaged objects again from other forms; drop the rest.")
@click.pass_obj
def fsck(root: str, repair: bool) -> int:
    """Check the store for damage.

    fsck compares the database with the files, and every blob with its digest. With --repair no other pybuild may use the
    store at the same time.
    """
    with Store(root) as store:
        if store.unswept:
            with Pool() as pool:
                sweep_all(store, pool)
        if repair:
            from pybuild.report import printable
            from pybuild.store.maintenance.repair import repair as repair_store

            for line in repair_store(store):
                click.echo(f"repaired: {printable(line)}")
        report = check(store)
    for problem in report.damage:
        click.echo(f"damaged: {problem}")
    for name in report.garbage:
        click.echo(f"left over: {name}")
    if report.damage and not repair:
        click.echo(
            "hint: pybuild fsck --repair drops damaged objects, and makes again what can be made again", err=True
        )
    click.echo(f"{report.checked} objects checked, {len(report.damage)} damaged, {len(report.garbage)} left over")
    return 1 if report.damage else 0


@click.command()
@click.pass_obj
def reset(root: str) -> int:
    """Delete the store and everything in it."""
    reset_store(root, remove)
    return 0
