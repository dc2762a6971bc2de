"""The results of a check in all formats; SARIF is validated with its published schema."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pybuild.builder.check import CheckReport
from pybuild.builder.errors import PlanError
from pybuild.findings.github import check_as_annotations
from pybuild.findings.json import check_as_json
from pybuild.findings.sarif import check_as_sarif
from pybuild.findings.text import warnings_as_text
from pybuild.parser import ParseWarning, Source, Span

SCHEMA = json.loads((Path(__file__).parents[3] / "fixtures/sarif-2.1.0.json").read_text())
TEXT = "FROM x as y\nMAINTAINER me\nRUN a \\\n  b\nCOPY nope* /\n"
SOURCE = Source("/checkout/app/Buildfile", TEXT)
WARNINGS = (
    ParseWarning("MaintainerDeprecated", "50% of\nlines: are, bad", Span(2, 1, 2, 14)),
    ParseWarning("CopyUnmatchedWildcard", "nothing", Span(3, 1, 4, 4)),
)
MISTAKE = PlanError("wrong", span=Span(5, 6, 5, 7), source=SOURCE)
REPORT = CheckReport(SOURCE, (MISTAKE, PlanError("no place")), WARNINGS, ("line 3 is not judged",))
NOTHING = CheckReport(SOURCE, ())


def test_text() -> None:
    *_, explained, counts = warnings_as_text(REPORT)
    assert explained == "docs/user/checks.md explains each rule, and how to skip it."
    assert counts == "Check complete, 2 errors and 2 warnings found."
    assert list(warnings_as_text(NOTHING)) == ["Check complete, no warnings found."]


def test_json_has_the_fields_of_docker() -> None:
    data = json.loads(check_as_json(REPORT))
    assert data["warnings"][1] == {
        "ruleName": "CopyUnmatchedWildcard",
        "description": "A pattern matches no file, so nothing is copied for it",
        "url": "docs/user/checks.md#copyunmatchedwildcard",
        "detail": "nothing",
        "location": {"ranges": [{"start": {"line": 3}, "end": {"line": 4}}]},
    }
    (source,) = data["sources"]
    assert (source["fileName"], base64.b64decode(source["data"]).decode()) == (SOURCE.filename, TEXT)
    place = {"ranges": [{"start": {"line": 5}, "end": {"line": 5}}]}
    assert data["buildError"] == {"message": "wrong", "location": place}
    assert data["errors"] == [data["buildError"], {"message": "no place"}]
    assert data["notes"] == ["line 3 is not judged"]
    assert json.loads(check_as_json(NOTHING)).keys() == {"warnings", "sources"}


def test_json_holds_no_password_of_a_url() -> None:
    source = Source("f", "ADD https://me:secret@host/x /\n")
    data = json.loads(check_as_json(CheckReport(source, ())))
    assert b"secret" not in base64.b64decode(data["sources"][0]["data"])


def sarif(found: CheckReport, base: str = "/checkout") -> Any:
    """The run of a report that has passed the schema."""
    data = json.loads(check_as_sarif(found, base))
    Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(data)
    (run,) = data["runs"]
    return run


def test_sarif() -> None:
    run = sarif(REPORT)
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["MaintainerDeprecated", "CopyUnmatchedWildcard", "CannotBuild"]
    assert rules[0]["helpUri"] == "https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/"
    results = run["results"]
    assert [(result["level"], rules[result["ruleIndex"]]["id"]) for result in results] == [
        ("warning", "MaintainerDeprecated"), ("warning", "CopyUnmatchedWildcard"), ("error", "CannotBuild"), ("error", "CannotBuild"),
    ]  # fmt: skip
    assert results[1]["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "app/Buildfile"},
        "region": {"startLine": 3, "startColumn": 1, "endLine": 4, "endColumn": 4},
    }
    assert "locations" not in results[3]
    assert run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"] == "line 3 is not judged"
    assert sarif(NOTHING)["results"] == []


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("/checkout/Buildfile", "Buildfile"),
        ("/checkout/a b#c/ü", "a%20b%23c/%C3%BC"),
        ("/other/Buildfile", "file:///other/Buildfile"),
        ("/checkout/\udcff", "%FF"),
    ],
)
def test_files_in_sarif_are_uris(path: str, uri: str) -> None:
    found = CheckReport(Source(path, TEXT), (), WARNINGS[:1])
    assert sarif(found)["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == uri


def test_github() -> None:
    assert list(check_as_annotations(REPORT, "/checkout")) == [
        "::notice::line 3 is not judged",
        "::warning file=app/Buildfile,line=2,col=1,endColumn=14,title=MaintainerDeprecated::50%25 of\\x0alines: are, bad",
        "::warning file=app/Buildfile,line=3,endLine=4,title=CopyUnmatchedWildcard::nothing",
        "::error file=app/Buildfile,line=5,col=6,endColumn=7::wrong",
        "::error::no place",
    ]


@given(st.text(), st.text(min_size=1).filter(lambda name: "\0" not in name))
def test_no_text_leaves_its_annotation_or_the_schema(text: str, name: str) -> None:
    source = Source(name, f"FROM {text}")
    warning = ParseWarning("UndefinedVar", text, Span(1, 1, 1, 2))
    found = CheckReport(source, (PlanError(text, span=warning.span, source=source),), (warning,), (text,))
    lines = list(check_as_annotations(found, "/checkout"))
    assert len(lines) == 3
    assert all(line.startswith("::") and "\n" not in line and "\r" not in line for line in lines)
    properties = lines[1].removeprefix("::warning ").partition("::")[0]
    assert [part.partition("=")[0] for part in properties.split(",")] == ["file", "line", "col", "endColumn", "title"]
    assert len(sarif(found)["results"]) == 2
    assert len(json.loads(check_as_json(found))["errors"]) == 1
