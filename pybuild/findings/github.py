"""Findings as annotations of GitHub Actions. Source: GitHub's "Workflow commands for GitHub Actions"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild import report
from pybuild.progress.github import annotation_place, workflow_command
from pybuild.report import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.builder.check import CheckReport
    from pybuild.parser import Source, Span


def check_as_annotations(found: CheckReport, workspace: str) -> Iterator[str]:
    """A command for each note, warning and mistake. `workspace` is the checkout, or "" if it is not known."""
    for text in found.notes:
        yield workflow_command("notice", printable(text))
    for warning in found.warnings:
        place = _place(found.source, warning.span, workspace)
        yield workflow_command("warning", printable(warning.message), **place, title=warning.rule)
    for error in found.mistakes:
        located = report.location(error)
        place = {} if located is None else _place(*located, workspace)
        yield workflow_command("error", printable(report.message_of(error)), **place)


def _place(source: Source, span: Span, workspace: str) -> dict[str, str]:
    """The properties of a place. GitHub takes columns only for a place within one line."""
    place = annotation_place(source, span, workspace)
    if span.end_line != span.line:
        return {"file": place["file"], "line": place["line"], "endLine": str(span.end_line)}
    return {**place, "endColumn": str(span.end_column)}
