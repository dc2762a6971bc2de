"""pybuild df."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from pybuild.builder.maintenance import StoreDirectories
from pybuild.builder.workers.pool import Pool
from pybuild.progress import human_size
from pybuild.report import visible
from pybuild.store.formats.reference import Reference
from pybuild.store.maintenance.reachability import title_of
from pybuild.store.maintenance.usage import Reason, Usage, UsageLine, usage
from pybuild.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

_TITLE = 60  # characters of a step that a line has room for


@click.command()
@click.option("-v", "--verbose", is_flag=True, help="One line for each image, record and cache mount.")
@click.option("--json", "as_json", is_flag=True, help="All of it as one JSON object.")
@click.pass_obj
def df(root: str, verbose: bool, as_json: bool) -> int:
    """Show what the store holds, and why it is kept.

    What several things need is counted once, for the first of them: images, then cache records. SIZE of an item is all
    that it needs, OWN what nothing before it needs. `nothing` is what gc frees.
    """
    with Store(root) as store, Pool() as pool:
        found = usage(store, StoreDirectories(store, pool).measure)
    if as_json:
        click.echo(json.dumps(_fields(found)))
        return 0
    for line in _sums(found):
        click.echo(line)
    if verbose:
        for line in _items(found):
            click.echo(line)
    return 0


def _fields(found: Usage) -> dict[str, object]:
    return {
        "total": found.total,
        "tables": found.tables,
        "memos": found.memos,
        "logs": {"count": found.logs.count, "size": found.logs.size},
        "kept_for": {reason.value: {"count": part.count, "size": part.size} for reason, part in found.reasons.items()},
        "stored_as": {form.value: {"count": part.count, "size": part.size} for form, part in found.forms.items()},
        "items": [
            {
                "kept_for": item.reason.value,
                "name": _name(item),
                "size": item.size,
                "own": item.own,
                "last_used": item.last_used,
                "in_use": item.in_use,
            }
            for item in found.lines
        ],
    }


def _sums(found: Usage) -> Iterator[str]:
    yield f"{'KEPT FOR':<20} {'COUNT':>7} {'SIZE':>10}"
    for reason, part in found.reasons.items():
        yield f"{reason.value:<20} {part.count:>7} {human_size(part.size):>10}"
    yield f"{'the tables':<20} {'':>7} {human_size(found.tables):>10}"
    yield f"{'digests of contexts':<20} {'':>7} {human_size(found.memos):>10}"
    yield f"{'logs of builds':<20} {found.logs.count:>7} {human_size(found.logs.size):>10}"
    yield f"{'total':<20} {'':>7} {human_size(found.total):>10}"
    yield ""
    yield f"{'STORED AS':<20} {'COUNT':>7} {'SIZE':>10}"
    for form, part in found.forms.items():
        yield f"{form.value:<20} {part.count:>7} {human_size(part.size):>10}"


def _items(found: Usage) -> Iterator[str]:
    for reason in Reason:
        items = [item for item in found.lines if item.reason is reason]
        if not items:
            continue
        yield ""
        yield f"{'SIZE':>10} {'OWN':>10}  {'LAST USED':<16}  {reason.value.upper()}"
        for item in items:
            used = "" if item.last_used is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(item.last_used))
            name = _name(item) + (" (in use)" if item.in_use else "")
            yield f"{human_size(item.size):>10} {human_size(item.own):>10}  {used:<16}  {visible(name)}"


def _name(item: UsageLine) -> str:
    match item.reason:
        case Reason.IMAGE:
            return " ".join(Reference.parse(name).familiar for name in item.name.split())
        case Reason.RECORD:
            title = " ".join(title_of(item.name).split())
            return title if len(title) <= _TITLE else title[: _TITLE - 1] + "…"
        case _:
            return item.name
