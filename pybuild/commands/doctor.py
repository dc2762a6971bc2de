"""pybuild doctor: what this machine lacks for RUN, and how to fix it."""

from __future__ import annotations

import json
import os

import click

from pybuild.builder.doctor import State, examine
from pybuild.builder.workers.pool import Pool
from pybuild.options.emulators import parse_emulators
from pybuild.options.steps import parse_isolation, parse_snapshots
from pybuild.store.store import Access, Store
from pybuild.values.limits import LIMITS


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.option("--limits", "only_limits", is_flag=True, help="List the limits and how to change them instead.")
@click.pass_obj
def doctor(root: str, as_json: bool, only_limits: bool) -> int:
    """Test what RUN needs on this machine.

    For each failed test doctor shows a fix. The exit status is 1 if RUN cannot work.
    """
    if only_limits:
        _show_limits(as_json=as_json)
        return 0
    isolation = parse_isolation(os.environ.get("PYBUILD_ISOLATION") or "full")
    snapshots = parse_snapshots(os.environ.get("PYBUILD_SNAPSHOTS") or "auto")
    emulators = parse_emulators(())
    with Store(root, Access.READ) as store, Pool() as pool:
        checks = examine(store, pool, isolation, emulators, snapshots)
    for check in checks:
        if as_json:
            fields = {"name": check.name, "state": check.state.value, "found": check.found, "fix": check.fix}
            click.echo(json.dumps(fields))
        else:
            click.echo(f"{check.state.value:<4}  {check.name:<19}  {check.found}")
            if check.fix:
                click.echo(f"{'':<4}  {'':<19}  fix: {check.fix}")
    return 1 if any(check.state is State.FAIL for check in checks) else 0


def _show_limits(*, as_json: bool) -> None:
    """One line for each limit: its variable, the value, the default if that is another, and what it bounds."""
    limits = LIMITS.values()
    if as_json:
        for limit in limits:
            fields = {
                "name": limit.name, "variable": limit.variable, "value": limit.value, "default": limit.default,
                "unit": limit.unit.value or None, "what": limit.what,
            }  # fmt: skip
            click.echo(json.dumps(fields))
        return
    names = max(len(limit.variable) for limit in limits)
    values = max(len(limit.shown()) for limit in limits)
    for limit in limits:
        default = "" if limit.value == limit.default else f" (default: {limit.shown(limit.default)})"
        click.echo(f"{limit.variable:<{names}}  {limit.shown():>{values}}  {limit.what}{default}")
