"""Findings as SARIF 2.1.0, which code scanning of GitHub, GitLab and others reads.

Source: https://docs.oasis-open.org/sarif/sarif/v2.1.0/ . Columns count code points. A file is named relative to the checkout
(GITHUB_WORKSPACE), else to the working directory; one outside of it by its absolute URI.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING
from urllib.parse import quote

from pybuild import report
from pybuild.builder.plan.rules import RULES, section_of, url_of
from pybuild.values.redact import redact
from pybuild.version import __version__

if TYPE_CHECKING:
    from pybuild.builder.check import CheckReport
    from pybuild.parser import Source, Span

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_MISTAKE = "CannotBuild"  # the rule that all mistakes break


def check_as_sarif(found: CheckReport, base: str) -> str:
    """The warnings and mistakes of a check as a log with one run. File names are relative to the directory `base`."""
    rules = list(dict.fromkeys(warning.rule for warning in found.warnings))
    descriptors = [_rule(rule) for rule in rules]
    results = [
        _result(
            rules.index(warning.rule),
            warning.rule,
            "warning",
            warning.message,
            _place(found.source, warning.span, base),
        )
        for warning in found.warnings
    ]
    if found.mistakes:
        descriptors.append({"id": _MISTAKE, "shortDescription": {"text": "The recipe cannot be built"}})
    for error in found.mistakes:
        place = report.location(error)
        located = None if place is None else _place(*place, base)
        results.append(_result(len(rules), _MISTAKE, "error", report.message_of(error), located))
    notes = [{"level": "note", "message": {"text": text}} for text in found.notes]
    run = {
        "tool": {"driver": {"name": "pybuild", "version": __version__, "rules": descriptors}},
        "columnKind": "unicodeCodePoints",
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": notes}],
        "results": results,
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _rule(rule: str) -> dict[str, object]:
    url = url_of(rule)
    help_uri = {"helpUri": url} if url.startswith("https://") else {}
    described = {"shortDescription": {"text": RULES[rule]}, "help": {"text": f"See {section_of(rule)}"}}
    return {"id": rule, **described, **help_uri, "defaultConfiguration": {"level": "warning"}}


def _result(index: int, rule: str, level: str, text: str, place: dict[str, object] | None) -> dict[str, object]:
    located = {} if place is None else {"locations": [place]}
    return {"ruleId": rule, "ruleIndex": index, "level": level, "message": {"text": redact(text)}, **located}


def _place(source: Source, span: Span, base: str) -> dict[str, object]:
    region = {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": span.end_line,
        "endColumn": span.end_column,
    }
    return {"physicalLocation": {"artifactLocation": {"uri": _uri(source.filename, base)}, "region": region}}


def _uri(path: str, base: str) -> str:
    inside = os.path.relpath(path, base)
    if inside == ".." or inside.startswith("../"):
        return "file://" + quote(os.fsencode(os.path.abspath(path)))
    return quote(os.fsencode(inside))
