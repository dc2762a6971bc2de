"""pybuild doctor: what this machine lacks for RUN, and how to fix it."""

from __future__ import annotations

import json

import click

from pybuild.builder.doctor import State, examine
from pybuild.builder.workers.pool import Pool
from pybuild.store.store import Store


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.pass_obj
def doctor(root: str, as_json: bool) -> int:
    """Test what RUN needs on this machine.

    For each failed test doctor shows a fix. The exit status is 1 if RUN cannot work.
    """
    with Store(root) as store, Pool() as pool:
        checks = examine(store, pool)
    for check in checks:
        if as_json:
            fields = {"name": check.name, "state": check.state.value, "found": check.found, "fix": check.fix}
            click.echo(json.dumps(fields))
        else:
            click.echo(f"{check.state.value:<4}  {check.name:<15}  {check.found}")
            if check.fix:
                click.echo(f"{'':<4}  {'':<15}  fix: {check.fix}")
    return 1 if any(check.state is State.FAIL for check in checks) else 0
