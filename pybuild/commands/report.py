"""pybuild report: a build as a page for a browser."""

from __future__ import annotations

import click

from pybuild.commands.chosen_build import chosen_build
from pybuild.commands.explore import write_page
from pybuild.pages.build_page import page_of_build
from pybuild.store.exporting.publish import STDOUT
from pybuild.store.objects.build_logs import build_logs
from pybuild.store.store import Access, Store


@click.command()
@click.argument("build", required=False)
@click.option(
    "-o", "--output", metavar="FILE", help="Where to write the page; - is standard output. [default: BUILD.html]"
)
@click.option("--open", "opens", is_flag=True, help="Show the page in a browser.")
@click.pass_obj
def report(root: str, build: str | None, output: str | None, opens: bool) -> int:
    """Write a page about a build: when its steps ran, why they were not cached, and what they printed.

    BUILD is the id of a build, the beginning or end of one, or the name or digest of an image; without it, or with
    `last`, it is the last build. `pybuild logs --list` shows the builds whose logs are kept. The page compares the build
    with the one before, of the same recipe and target. It is one HTML file that loads nothing.
    """
    if opens and output == STDOUT:
        raise click.UsageError("--open needs a file: leave out -o -")
    with Store(root, Access.READ) as store:
        logs = build_logs(store.logs)
        name = chosen_build(store, [log.build for log in reversed(logs)], build, "logs")
        page = page_of_build(store, next(log for log in logs if log.build == name))
    write_page(page, output or f"{name}.html", opens=opens)
    return 0
