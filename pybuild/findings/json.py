"""Findings, outlines and targets as JSON, with the fields of `docker buildx build --call=METHOD,format=json`.

Passwords in URLs are replaced, also in the recipe, which docker puts into each report. `errors` and `notes` are pybuild's:
BuildKit stops at the first mistake, which is `buildError`. Sources: frontend/subrequests of moby/buildkit.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from pybuild import report
from pybuild.builder.plan.rules import RULES, url_of
from pybuild.values.redact import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.builder.check import CheckReport
    from pybuild.builder.outline import Need, Outline, Targets
    from pybuild.parser import Source, Span


def check_as_json(found: CheckReport) -> str:
    """The warnings and mistakes of a check."""
    source = found.source
    warnings = [
        {
            "ruleName": warning.rule,
            "description": RULES[warning.rule],
            "url": url_of(warning.rule),
            "detail": redact(warning.message),
            "location": _location(warning.span),
        }
        for warning in found.warnings
    ]
    errors = [_error(error) for error in found.mistakes]
    data: dict[str, object] = {"warnings": warnings}
    data["sources"] = [{"fileName": source.filename, "language": "Dockerfile", "data": _encoded(source)}]
    if errors:
        data |= {"buildError": errors[0], "errors": errors}
    if found.notes:
        data["notes"] = list(found.notes)
    return _dumped(data)


def outline_as_json(found: Outline) -> str:
    """The parameters of a target."""
    arguments = [
        _with_values(
            {"name": argument.name, "description": argument.description, "value": redact(argument.value)}, argument.span
        )
        for argument in found.arguments
    ]
    data = {"name": found.name, "description": found.description, "args": arguments}
    data |= {"secrets": _needs(found.secrets), "ssh": _needs(found.agents)}
    return _dumped({key: value for key, value in data.items() if value} | {"sources": [_encoded(found.source)]})


def targets_as_json(found: Targets) -> str:
    """All targets."""
    targets = [
        _with_values(
            {
                "name": target.name,
                "default": target.is_default,
                "description": target.description,
                "base": redact(target.base),
                "platform": target.platform,
            },
            target.span,
        )
        for target in found.targets
    ]
    return _dumped({"targets": targets, "sources": [_encoded(found.source)]})


def _needs(needs: Sequence[Need]) -> list[dict[str, object]]:
    return [_with_values({"name": need.id, "required": need.required}, need.span) for need in needs]


def _with_values(fields: dict[str, object], span: Span) -> dict[str, object]:
    """The fields that are not empty, as docker omits the others, and the place."""
    return {key: value for key, value in fields.items() if value or (key == "name" and "required" in fields)} | {
        "location": _location(span)
    }


def _error(error: Exception) -> dict[str, object]:
    place = report.location(error)
    data: dict[str, object] = {"message": report.message_of(error)}
    return data if place is None else data | {"location": _location(place[1])}


def _location(span: Span) -> dict[str, object]:
    last = span.end_line if span.end_column > 1 or span.end_line == span.line else span.end_line - 1
    return {"ranges": [{"start": {"line": span.line}, "end": {"line": last}}]}


def _encoded(source: Source) -> str:
    return base64.b64encode(redact(source.text).encode("utf-8", "surrogateescape")).decode()


def _dumped(data: object) -> str:
    return json.dumps(data, indent=2)
