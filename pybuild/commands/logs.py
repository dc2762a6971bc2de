"""pybuild logs: the output of earlier builds."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING

import click

from pybuild.commands.chosen_build import chosen_build
from pybuild.progress.formatting import one_line
from pybuild.progress.lines import write_output
from pybuild.progress.recorded import read_events
from pybuild.store.objects.build_logs import StoredLog, build_logs
from pybuild.store.store import Access, Store
from pybuild.values.sizes import human_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CHUNK = 1 << 16


@click.command()
@click.argument("build", required=False)
@click.argument("step", required=False, type=int)
@click.option("--list", "only_list", is_flag=True, help="List the builds that have logs, newest first.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the events of BUILD, or the list, as one JSON object per line."
)
@click.pass_obj
def logs(root: str, build: str | None, step: int | None, only_list: bool, as_json: bool) -> int:
    """Show the output of an earlier build.

    BUILD is the id of a build, the beginning or end of one, or the name or digest of an image; without it, or with
    `last`, it is the last build. STEP selects one step by its number in the output.
    """
    with Store(root, Access.READ) as store:
        found = build_logs(store.logs)
        if only_list:
            for log in found:
                summary = _summary(log)
                click.echo(
                    json.dumps(summary)
                    if as_json
                    else f"{log.build}  {summary['state']:<8}  {summary['name'] or summary['recipe']}"
                )
            return 0
        name = chosen_build(store, [log.build for log in reversed(found)], build, "logs")
        log = next(log for log in found if log.build == name)
        if as_json:
            for line in log.events():
                click.echo(line, nl=False)
        elif step is not None:
            _print_output(log, step)
        else:
            _print_all(log)
    return 0


def _summary(log: StoredLog) -> dict[str, object]:
    state, recipe, name = "running" if log.running else "stopped", "", ""
    for event in read_events(log.events()):
        match event["event"]:
            case "build_started":
                recipe = str(event["recipe"] or event["context"])
                name = str(event.get("name") or "")  # logs of older versions have no name
            case "build_finished":
                state = "done"
            case "build_failed":
                state = "failed"
    return {"build": log.build, "state": state, "recipe": one_line(recipe), "name": one_line(name)}


def _print_all(log: StoredLog) -> None:
    """Print each finished step with its output, in the order in which the steps ended."""
    click.echo(f"build {log.build}")
    for event in read_events(log.events()):
        match event["event"]:
            case "step_finished" | "step_failed":
                # The name of a file is made of it, so it has to be a number.
                if isinstance(node := event["node"], int):
                    click.echo(step_line(event, log.size(node)))
                    _print_output(log, node)
            case "build_failed":
                click.echo(one_line(f"error: {event['message']}"))


def step_line(event: Mapping[str, object], size: int) -> str:
    """The line about a step that has ended and has written `size` bytes."""
    how = "CACHED" if event.get("cached") else "FAILED" if "status" in event else f"{event['seconds']} s"
    name = f"[{event['stage']} {event['number']}/{event['total']}]"
    written = f", {human_size(size)} written" if size else ""
    return one_line(f"step {event['node']}: {name} {how}{written}: {event['instruction']}")


def _print_output(log: StoredLog, step: int) -> None:
    """Print the output of a step; a step without output has no file."""
    with suppress(FileNotFoundError), log.open(step) as file:
        write_output(sys.stdout, _pieces(file))


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    """The content of a file in pieces that end with a newline."""
    while piece := file.read(_CHUNK) + file.readline(_CHUNK):
        yield piece if piece.endswith(b"\n") else piece + b"\n"
