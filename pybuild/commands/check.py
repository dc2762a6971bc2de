"""pybuild build --check, --call=outline and --call=targets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from pybuild import report
from pybuild.builder.check import check
from pybuild.builder.events import CheckWarning, Note, ignore
from pybuild.options.call import Method

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pybuild.builder.build import BuildRequest
    from pybuild.builder.check import CheckReport
    from pybuild.builder.events import Event
    from pybuild.options.call import Call
    from pybuild.store.store import Store


def answer(call: Call, request: BuildRequest, store: Store, observe: Callable[[Event], None] | None) -> int:
    """Print what the call asks for, or pass the findings to `observe` if it is not None; return the exit status."""
    match call.method:
        case Method.OUTLINE:
            from pybuild.builder.outline import outline
            from pybuild.findings.json import outline_as_json
            from pybuild.findings.text import outline_as_text

            offered = outline(request, store)
            _print([outline_as_json(offered)] if call.format == "json" else outline_as_text(offered))
            return 0
        case Method.TARGETS:
            from pybuild.builder.outline import targets
            from pybuild.findings.json import targets_as_json
            from pybuild.findings.text import targets_as_text

            listed = targets(request, store)
            _print([targets_as_json(listed)] if call.format == "json" else targets_as_text(listed))
            return 0
        case Method.CHECK:
            found = check(request, store, observe or ignore)
            if observe is None:
                _print_findings(found, call.format)
            else:
                _pass_on(found, observe)
            return int(not found.is_clean and not call.ignore_status)


def _pass_on(found: CheckReport, observe: Callable[[Event], None]) -> None:
    for text in found.notes:
        observe(Note(text))
    for warning in found.warnings:
        observe(CheckWarning(warning.rule, warning.message, found.source, warning.span))
    for error in found.mistakes:
        report.show(error)


def _print_findings(found: CheckReport, format: str) -> None:
    workspace = os.environ.get("GITHUB_WORKSPACE", "")
    match format:
        case "json":
            from pybuild.findings.json import check_as_json

            _print([check_as_json(found)])
        case "sarif":
            from pybuild.findings.sarif import check_as_sarif

            _print([check_as_sarif(found, workspace or os.getcwd())])
        case "github":
            from pybuild.findings.github import check_as_annotations

            _print(check_as_annotations(found, workspace))
        case _:
            from pybuild.findings.text import warnings_as_text

            for text in found.notes:
                click.echo(f"note: {text}", err=True)
            for error in found.mistakes:
                report.show(error)
            _print(warnings_as_text(found))


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line.encode("utf-8", "backslashreplace"))
