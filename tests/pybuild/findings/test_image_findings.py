"""What breaks the rules of an image, in all formats; SARIF is validated with its published schema."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pybuild.builder.events import RuleBroken
from pybuild.builder.gate.rules import RULES
from pybuild.findings import image_rules
from pybuild.findings.image_sarif import as_sarif
from pybuild.findings.junit import as_junit

SCHEMA = json.loads((Path(__file__).parents[3] / "fixtures/sarif-2.1.0.json").read_text())
LAYER = "sha256:" + "ab" * 32
FOUND = (
    RuleBroken("max-size", "the image has 2 MB, 1 MB are allowed", size=2_000_000),
    RuleBroken("setuid", "set-user-ID: runs as user 0", "/usr/bin/a b", LAYER, "RUN chmod 4755 <a>"),
    RuleBroken("setuid", "set-user-ID: runs as user 0", "/\udcff\x1b[0m", LAYER),
)
ASKED = ("max-size", "setuid", "secrets")


def test_text() -> None:
    assert list(image_rules.as_text("app:1", ASKED, FOUND)) == [
        "max-size: the image has 2 MB, 1 MB are allowed",
        "setuid: /usr/bin/a b: set-user-ID: runs as user 0 (by `RUN chmod 4755 <a>`)",
        "setuid: /\\xff\\x1b[0m: set-user-ID: runs as user 0 (layer abababababab)",
        "app:1 breaks 2 of 3 rules: max-size, setuid",
    ]
    assert list(image_rules.as_text("app:1", ASKED, ())) == ["app:1 keeps all 3 rules: max-size, setuid, secrets"]
    assert list(image_rules.as_text("app:1", ("setuid",), ())) == ["app:1 keeps the rule: setuid"]


def test_json() -> None:
    data = json.loads(image_rules.as_json("app:1", ASKED, FOUND))
    assert (data["image"], data["rules"]) == ("app:1", list(ASKED))
    assert data["findings"][1] == {
        "rule": "setuid",
        "description": RULES["setuid"],
        "text": "set-user-ID: runs as user 0",
        "path": "/usr/bin/a b",
        "layer": LAYER,
        "instruction": "RUN chmod 4755 <a>",
        "size": None,
    }
    assert data["findings"][2]["path"] == "/\\xff\x1b[0m"


def test_annotations() -> None:
    first, second, third = image_rules.as_annotations("app:1", FOUND)
    assert first == "::error title=max-size::app:1: the image has 2 MB, 1 MB are allowed"
    assert second.startswith("::error title=setuid::app:1: /usr/bin/a b: ")
    assert "\x1b" not in third


def sarif(found: tuple[RuleBroken, ...]) -> Any:
    data = json.loads(as_sarif("reg.example.test/app:1", ASKED, found))
    Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(data)
    (run,) = data["runs"]
    return run


def test_sarif() -> None:
    run = sarif(FOUND)
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == list(ASKED)
    places = [result["locations"][0]["physicalLocation"]["artifactLocation"] for result in run["results"]]
    assert places == [
        {"uri": "reg.example.test/app%3A1"},
        {"uri": "usr/bin/a%20b", "uriBaseId": "ROOTPATH"},
        {"uri": "%FF%1B%5B0m", "uriBaseId": "ROOTPATH"},
    ]
    logical = run["results"][1]["locations"][0]["logicalLocations"]
    assert logical == [{"fullyQualifiedName": LAYER, "kind": "layer", "name": "RUN chmod 4755 <a>"}]
    assert sarif(())["results"] == []


def test_a_fingerprint_does_not_depend_on_sizes() -> None:
    def fingerprint(one: RuleBroken) -> str:
        (result,) = sarif((one,))["results"]
        return str(result["partialFingerprints"]["pybuildRule/v1"])

    one, other = RuleBroken("max-size", "2 MB", size=2), RuleBroken("max-size", "3 MB", size=3)
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(FOUND[1]) != fingerprint(FOUND[2])


def test_junit() -> None:
    root = ET.fromstring(as_junit("app:1", ASKED, FOUND))
    (suite,) = root
    assert suite.attrib == {"name": "app:1", "tests": "3", "failures": "2", "errors": "0", "skipped": "0"}
    cases = {case.attrib["name"]: list(case) for case in suite}
    assert list(cases) == list(ASKED)
    assert [len(failures) for failures in cases.values()] == [1, 1, 0]
    (failure,) = cases["setuid"]
    assert failure.attrib["message"] == f"2 findings: {RULES['setuid']}"
    assert failure.text is not None and "<a>" in failure.text


TEXTS = st.text(st.characters(), max_size=20) | st.binary(max_size=20).map(lambda data: data.decode("utf-8", "surrogateescape"))


@given(TEXTS, TEXTS.map(lambda text: "/" + text), TEXTS)
def test_any_text_becomes_valid_output(name: str, path: str, instruction: str) -> None:
    try:
        path.encode("utf-8", "surrogateescape")
        name.encode("utf-8", "surrogateescape")
        instruction.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return  # no path and no argument decodes to this
    found = (RuleBroken("setuid", "text", path, LAYER, instruction),)
    ET.fromstring(as_junit(name, ASKED, found))
    json.loads(as_sarif(name, ASKED, found))
    json.loads(image_rules.as_json(name, ASKED, found))
    assert all(line.isprintable() for line in image_rules.as_text(name, ASKED, found))
    assert all("\n" not in line and "\r" not in line for line in image_rules.as_annotations(name, found))


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_a_section(rule: str) -> None:
    document = (Path(__file__).parents[3] / "docs/user/image-rules.md").read_text()
    assert f"\n### {rule}\n" in document
