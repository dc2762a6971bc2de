"""pybuild context: which files a build gets from a context, and which lines of the ignore file exclude the others."""

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
from pybuild.report import printable
from pybuild.store.formats.toc import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.builder.sources.context_listing import Listing
    from pybuild.store.formats.toc import Entry

_PLURALS = {"directory": "directories"}


@click.group()
def context() -> None:
    """Inspect contexts. (`pybuild build context` builds a directory with this name.)"""


@context.command("ls")
@click.argument("place", metavar="CONTEXT")
@click.option(
    "-f",
    "--file",
    "recipe",
    metavar="FILE",
    help="The recipe: its FILE.dockerignore is used if there is one. [default: as for a build; none is needed]",
)
@click.option(
    "--excluded", is_flag=True, help="List the excluded paths, each with the line of the ignore file that excludes it."
)
@click.option("--json", "as_json", is_flag=True, help="Print both lists as one JSON object.")
@click.pass_context
def ls(ctx: click.Context, place: str, recipe: str | None, excluded: bool, as_json: bool) -> int:
    """List the paths that a build can copy from CONTEXT.

    Prints type, size and path of each one, and the totals. CONTEXT is as for a build: a directory, a git repository, or
    an archive (a URL, or - for standard input). Only a directory has an ignore file. An excluded directory is one
    entry, unless a line with ! includes something inside it again.
    """
    if place == recipe == STDIN:
        raise click.UsageError("standard input cannot be both CONTEXT and the recipe (-f -)")
    listing = _list_archive(ctx.obj, place) if is_archive(place) else list_directory(place, recipe)
    if as_json:
        click.echo(json.dumps(_fields(listing)))
        return 0
    for line in _excluded_lines(listing) if excluded else _sent_lines(listing):
        click.echo(line)
    if listing.exceeds is not None:
        click.echo(f"more than the limit of {listing.exceeds}: a build that copies all of it fails", err=True)
    return 0


def _list_archive(root: str, place: str) -> Listing:
    from pybuild.builder.events import ignore
    from pybuild.builder.options import BuildOptions
    from pybuild.builder.session import Session
    from pybuild.builder.sources.images import BaseImages
    from pybuild.builder.workers.pool import Pool
    from pybuild.store.store import Access, Store

    with Store(root, Access.READ) as store, Pool() as pool:
        session = Session(store, pool, BuildOptions(), ignore)
        contexts = Contexts(session, BaseImages(session), place, {})
        return list_archive(contexts.open_archive())


def _sent_lines(listing: Listing) -> Iterator[str]:
    for sent in listing.sent:
        entry = sent.entry
        size = human_size(entry.size) if entry.kind is Kind.FILE else ""
        link = f" -> {_text(entry.link)}" if entry.kind is Kind.SYMLINK else ""
        yield f"{_type(entry, sent.socket):<9} {size:>10}  {_path(entry)}{link}"
    types = Counter(_type(sent.entry, sent.socket) for sent in listing.sent)
    counts = [_count(types.pop(name, 0), name) for name in ("file", "directory")]
    counts += [_count(number, name) for name, number in sorted(types.items())]
    yield f"{', '.join(counts)}: {human_size(listing.size)}"
    if listing.excluded:
        count = _count(len(listing.excluded), "path")
        yield f"{count} excluded by {printable(listing.ignore_file or '')}: --excluded lists them"


def _excluded_lines(listing: Listing) -> Iterator[str]:
    for excluded in listing.excluded:
        number, text = excluded.line
        yield f"{_path(excluded.entry)}  {printable(listing.ignore_file or '')}:{number}: {printable(text)}"
    if listing.ignore_file is None:
        yield "nothing is excluded: there is no ignore file"
    else:
        yield f"{_count(len(listing.excluded), 'path')} excluded by {printable(listing.ignore_file)}"


def _fields(listing: Listing) -> dict[str, object]:
    file = listing.ignore_file
    return {
        "ignore_file": file,
        "sent": [
            {**_common(sent.entry, sent.socket), "link": os.fsdecode(sent.entry.link) or None} for sent in listing.sent
        ],
        "excluded": [
            {**_common(out.entry), "by": {"file": file, "line": out.line.number, "text": out.line.text}}
            for out in listing.excluded
        ],
        "entries": len(listing.sent),
        "size": listing.size,
    }


def _common(entry: Entry, socket: bool = False) -> dict[str, object]:
    size = entry.size if entry.kind is Kind.FILE else 0
    return {"path": os.fsdecode(entry.path), "type": _type(entry, socket), "size": size}


def _type(entry: Entry, socket: bool) -> str:
    return "socket" if socket else entry.kind.name.lower()


def _path(entry: Entry) -> str:
    return _text(entry.path) + ("/" if entry.kind is Kind.DIRECTORY else "")


def _text(name: bytes) -> str:
    return printable(os.fsdecode(name))


def _count(number: int, name: str) -> str:
    return f"{number} {name if number == 1 else _PLURALS.get(name, name + 's')}"
