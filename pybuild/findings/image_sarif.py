"""What breaks the rules of an image, as SARIF 2.1.0.

A finding is at a file of the image, named relative to its root (`ROOTPATH`), else at the image itself. The layer and its
instruction are a logical location. Code scanning compares fingerprints, so a finding stays the same one when the size in its
text changes. Source: https://docs.oasis-open.org/sarif/sarif/v2.1.0/ , 3.28 and 3.33.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING
from urllib.parse import quote

from pybuild.builder.gate.rules import RULES
from pybuild.findings.image_rules import escaped
from pybuild.findings.sarif import SCHEMA
from pybuild.progress.formatting import rule_text
from pybuild.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.builder.events import RuleBroken

_ROOT = "ROOTPATH"
_DOCUMENT = "docs/user/image-rules.md"


def as_sarif(name: str, asked: Sequence[str], found: Sequence[RuleBroken]) -> str:
    """A log with one run."""
    rules = [
        {
            "id": rule,
            "shortDescription": {"text": RULES[rule]},
            "help": {"text": f"See {_DOCUMENT}#{rule}"},
            "defaultConfiguration": {"level": "error"},
        }
        for rule in asked
    ]
    run = {
        "tool": {"driver": {"name": "pybuild", "version": __version__, "rules": rules}},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {_ROOT: {"description": {"text": "the root of the image"}}},
        "invocations": [{"executionSuccessful": True}],
        "results": [_result(name, list(asked).index(one.rule), one) for one in found],
        "properties": {"image": escaped(name)},
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _result(name: str, index: int, one: RuleBroken) -> dict[str, object]:
    if one.path is None:
        place: dict[str, object] = {"uri": quote(os.fsencode(name), safe="/")}
    else:
        place = {"uri": quote(os.fsencode(one.path.lstrip("/"))), "uriBaseId": _ROOT}
    location: dict[str, object] = {"physicalLocation": {"artifactLocation": place, "region": {"startLine": 1}}}
    if one.layer is not None:
        layer: dict[str, object] = {"fullyQualifiedName": one.layer, "kind": "layer"}
        location["logicalLocations"] = [
            layer if one.instruction is None else {**layer, "name": escaped(one.instruction)}
        ]
    identity = "\0".join((one.rule, one.path or "", one.text if one.size is None else ""))
    fingerprint = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()
    return {
        "ruleId": one.rule,
        "ruleIndex": index,
        "level": "error",
        "message": {"text": rule_text(one)},
        "locations": [location],
        "partialFingerprints": {"pybuildRule/v1": fingerprint},
    }
