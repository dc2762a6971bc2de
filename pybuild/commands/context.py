"""pybuild context: what a build would find in a context, and which line of the ignore file keeps out what it would not."""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import TYPE_CHECKING

import click

from pybuild.builder.sources.context_listing import list_archive, list_directory
from pybuild.builder.sources.contexts import Contexts, is_archive
from pybuild.builder.sources.recipe import STDIN
from pybuild.progress import human_size
from pybuild.report import visible
from pybuild.store.formats.toc import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.builder.sources.context_listing import Listing
    from pybuild.store.formats.toc import Entry

_PLURALS = {"directory": "directories"}


@click.group()
def context() -> None:
    """Look at contexts. (A directory of this name is built with `pybuild build context`.)"""


@context.command("ls")
@click.argument("place", metavar="CONTEXT")
@click.option(
    "-f",
    "--file",
    "recipe",
    metavar="FILE",
    help="The recipe, beside which FILE.dockerignore counts. [default: as for a build, and there may be none]",
)
@click.option("--excluded", is_flag=True, help="List what stays behind, with the line of the ignore file that says so.")
@click.option("--json", "as_json", is_flag=True, help="Both lists as one JSON object.")
@click.pass_context
def ls(ctx: click.Context, place: str, recipe: str | None, excluded: bool, as_json: bool) -> int:
    """List what a build can copy from CONTEXT.

    Type, size and path of each thing; the sums at the end. CONTEXT is as for a build: a directory, or - or a URL for an
    archive or a git repository, of which nothing is ever excluded. A directory that is excluded is named once, unless a line with ! took back
    something in it.
    """
    if place == recipe == STDIN:
        raise click.UsageError("standard input cannot be both CONTEXT and the recipe (-f -)")
    found = _archive(ctx.obj, place) if is_archive(place) else list_directory(place, recipe)
    if as_json:
        click.echo(json.dumps(_fields(found)))
        return 0
    for line in _excluded(found) if excluded else _sent(found):
        click.echo(line)
    if found.exceeds is not None:
        click.echo(f"more than the limit of {found.exceeds}: a build that copies all of it fails", err=True)
    return 0


def _archive(root: str, place: str) -> Listing:
    from pybuild.builder.events import ignore
    from pybuild.builder.options import BuildOptions
    from pybuild.builder.session import Session
    from pybuild.builder.sources.images import BaseImages
    from pybuild.builder.workers.pool import Pool
    from pybuild.store.store import Store

    with Store(root) as store, Pool() as pool:
        session = Session(store, pool, BuildOptions(), ignore)
        contexts = Contexts(session, BaseImages(session), place, {})
        return list_archive(contexts.open_archive())


def _sent(found: Listing) -> Iterator[str]:
    for sent in found.sent:
        entry = sent.entry
        size = human_size(entry.size) if entry.kind is Kind.FILE else ""
        link = f" -> {_text(entry.link)}" if entry.kind is Kind.SYMLINK else ""
        yield f"{_type(entry, sent.socket):<9} {size:>10}  {_path(entry)}{link}"
    types = Counter(_type(sent.entry, sent.socket) for sent in found.sent)
    counts = [_count(types.pop(name, 0), name) for name in ("file", "directory")]
    counts += [_count(number, name) for name, number in sorted(types.items())]
    yield f"{', '.join(counts)}: {human_size(found.size)}"
    if found.excluded:
        yield f"{_count(len(found.excluded), 'path')} excluded by {visible(found.ignore_file or '')}: --excluded lists them"


def _excluded(found: Listing) -> Iterator[str]:
    for excluded in found.excluded:
        number, text = excluded.line
        yield f"{_path(excluded.entry)}  {visible(found.ignore_file or '')}:{number}: {visible(text)}"
    if found.ignore_file is None:
        yield "nothing is excluded: there is no ignore file"
    else:
        yield f"{_count(len(found.excluded), 'path')} excluded by {visible(found.ignore_file)}"


def _fields(found: Listing) -> dict[str, object]:
    file = found.ignore_file
    return {
        "ignore_file": file,
        "sent": [
            {**_common(sent.entry, sent.socket), "link": os.fsdecode(sent.entry.link) or None} for sent in found.sent
        ],
        "excluded": [
            {**_common(out.entry), "by": {"file": file, "line": out.line.number, "text": out.line.text}}
            for out in found.excluded
        ],
        "entries": len(found.sent),
        "size": found.size,
    }


def _common(entry: Entry, socket: bool = False) -> dict[str, object]:
    size = entry.size if entry.kind is Kind.FILE else 0
    return {"path": os.fsdecode(entry.path), "type": _type(entry, socket), "size": size}


def _type(entry: Entry, socket: bool) -> str:
    return "socket" if socket else entry.kind.name.lower()


def _path(entry: Entry) -> str:
    return _text(entry.path) + ("/" if entry.kind is Kind.DIRECTORY else "")


def _text(name: bytes) -> str:
    return visible(os.fsdecode(name))


def _count(number: int, name: str) -> str:
    return f"{number} {name if number == 1 else _PLURALS.get(name, name + 's')}"
