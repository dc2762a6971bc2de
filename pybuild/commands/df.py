"""pybuild df: what the store contains, and why."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from pybuild.builder.maintenance import StoreDirectories
from pybuild.builder.workers.pool import Pool
from pybuild.progress import human_size
from pybuild.report import printable
from pybuild.store.formats.reference import Reference
from pybuild.store.maintenance.reachability import title_of
from pybuild.store.maintenance.usage import Reason, Usage, UsageLine, usage
from pybuild.store.store import Access, Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.store.maintenance.origins import StepOrigin

_MAX_TITLE = 60  # characters of a step on one line


@click.command()
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Also print a line for each image, cache record, cache mount and layer, with recipe and step.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
@click.pass_obj
def df(root: str, verbose: bool, as_json: bool) -> int:
    """Show what the store contains, and why it is kept.

    Data that several items need counts once, for the first of them: images come first, then cache records. SIZE of an
    item is everything that it needs; OWN is the part that no item before it needs. gc frees what is kept for `nothing`.
    """
    with Store(root, Access.READ) as store, Pool() as pool:
        used = usage(store, StoreDirectories(store, pool).measure)
    if as_json:
        click.echo(json.dumps(_fields(used)))
        return 0
    for line in _total_lines(used):
        click.echo(line)
    if verbose:
        for line in (*_item_lines(used), *_layer_lines(used)):
            click.echo(line)
    return 0


def _fields(used: Usage) -> dict[str, object]:
    return {
        "total": used.total,
        "tables": used.tables,
        "memos": used.memos,
        "reserve": used.reserve,
        "logs": {"count": used.logs.count, "size": used.logs.size},
        "kept_for": {reason.value: {"count": part.count, "size": part.size} for reason, part in used.reasons.items()},
        "stored_as": {form.value: {"count": part.count, "size": part.size} for form, part in used.forms.items()},
        "not_here": {"count": used.elsewhere.count, "size": used.elsewhere.size},
        "items": [
            {
                "kept_for": item.reason.value,
                "name": _name(item),
                "size": item.size,
                "own": item.own,
                "last_used": item.last_used,
                "in_use": item.in_use,
                "step": _step_fields(item.origin),
            }
            for item in used.lines
        ],
        "layers": [
            {
                "changeset": layer.changeset,
                "size": layer.size,
                "images": [Reference.parse(name).familiar for name in layer.images],
                "step": _step_fields(layer.origin),
            }
            for layer in used.layers
        ],
    }


def _step_fields(origin: StepOrigin | None) -> dict[str, object] | None:
    if origin is None:
        return None
    return {
        "recipe": origin.recipe,
        "line": origin.line,
        "stage": origin.stage,
        "number": origin.number,
        "instruction": origin.instruction,
    }


def _total_lines(used: Usage) -> Iterator[str]:
    yield f"{'KEPT FOR':<20} {'COUNT':>7} {'SIZE':>10}"
    for reason, part in used.reasons.items():
        yield f"{reason.value:<20} {part.count:>7} {human_size(part.size):>10}"
    yield f"{'database':<20} {'':>7} {human_size(used.tables):>10}"
    yield f"{'context digests':<20} {'':>7} {human_size(used.memos):>10}"
    yield f"{'build logs':<20} {used.logs.count:>7} {human_size(used.logs.size):>10}"
    yield f"{'reserve for gc':<20} {'':>7} {human_size(used.reserve):>10}"
    yield f"{'total':<20} {'':>7} {human_size(used.total):>10}"
    yield ""
    yield f"{'STORED AS':<20} {'COUNT':>7} {'SIZE':>10}"
    for form, part in used.forms.items():
        yield f"{form.value:<20} {part.count:>7} {human_size(part.size):>10}"
    if used.elsewhere.count:
        yield ""
        yield f"{'NOT HERE':<20} {'COUNT':>7} {'SIZE':>10}"
        yield f"{'layers in registries':<20} {used.elsewhere.count:>7} {human_size(used.elsewhere.size):>10}"


def _item_lines(used: Usage) -> Iterator[str]:
    for reason in Reason:
        items = [item for item in used.lines if item.reason is reason]
        if not items:
            continue
        yield ""
        yield f"{'SIZE':>10} {'OWN':>10}  {'LAST USED':<16}  {reason.value.upper()}"
        for item in items:
            last_used = (
                "" if item.last_used is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(item.last_used))
            )
            name = _name(item) + _place(item.origin) + (" (in use)" if item.in_use else "")
            yield f"{human_size(item.size):>10} {human_size(item.own):>10}  {last_used:<16}  {printable(name)}"


def _layer_lines(used: Usage) -> Iterator[str]:
    """What each layer takes, in all its forms: unlike images and records, layers share nothing."""
    yield ""
    yield f"{'SIZE':>10}  LAYERS"
    for layer in used.layers:
        if layer.origin is not None:
            text = _shortened(layer.origin.instruction) + _place(layer.origin)
        else:
            names = ", ".join(Reference.parse(name).familiar for name in layer.images)
            text = f"layer of {names}" if names else f"layer {layer.changeset}"
        yield f"{human_size(layer.size):>10}  {printable(text)}"


def _place(origin: StepOrigin | None) -> str:
    """Where a step stands, for the end of a line."""
    return f"  {origin.recipe}:{origin.line} [{origin.stage} {origin.number}]" if origin is not None else ""


def _shortened(text: str) -> str:
    title = " ".join(text.split())
    return title if len(title) <= _MAX_TITLE else title[: _MAX_TITLE - 1] + "…"


def _name(item: UsageLine) -> str:
    match item.reason:
        case Reason.IMAGE:
            return " ".join(Reference.parse(name).familiar for name in item.name.split())
        case Reason.RECORD:
            return _shortened(title_of(item.name) if item.origin is None else item.origin.instruction)
        case _:
            return item.name
