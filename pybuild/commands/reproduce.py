"""pybuild build --reproduce: two builds, and what differs."""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING

import click

from pybuild.builder.reproduce.twice import reproduce as build_twice
from pybuild.progress.terminal_text import harmless

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.builder.build import BuildRequest
    from pybuild.builder.events import Event
    from pybuild.builder.reproduce.compare import ChangedPath
    from pybuild.store.store import Store


def reproduce(request: BuildRequest, store: Store, observe: Callable[[Event], None], *, as_json: bool) -> int:
    """Build twice, print what differs, and return the exit status: 1 if anything does."""
    found = build_twice(request, store, observe)
    if found.digests[0] == found.digests[1]:
        click.echo(found.digests[0])
        return 0
    if as_json:
        for difference in found.differences:
            click.echo(json.dumps(_fields(difference)))
    else:
        for place, changed in groupby(found.differences, _place):
            click.echo("\n".join([place, *map(_text, changed)]))
        count = (
            f"the first {len(found.differences)} differences" if found.more else f"{len(found.differences)} differences"
        )
        count = "1 difference" if len(found.differences) == 1 else count
        click.echo(f"{count}: {found.digests[0]}, {found.digests[1]}")
    return 1


def _place(one: ChangedPath) -> str:
    return f"[{one.platform}] " + (f"layer {one.layer}: {_shown(one.instruction)}" if one.layer else "config")


def _text(one: ChangedPath) -> str:
    lines = [f"  /{_shown(one.path)}"] if one.layer else []
    lines += [f"    {_shown(line)}" for line in one.what]
    if one.cure:
        lines.append(f"    cure: {one.cure}")
    return "\n".join(lines)


def _shown(text: str) -> str:
    """Text of a recipe or an image, for a terminal."""
    return harmless(text.encode("utf-8", "replace"), colour=False)


def _fields(one: ChangedPath) -> dict[str, object]:
    return {
        "platform": one.platform, "layer": one.layer, "instruction": one.instruction, "path": one.path,
        "what": list(one.what), "cure": one.cure,
    }  # fmt: skip
