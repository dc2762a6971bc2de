"""What breaks the rules of an image: as text, as JSON, and as annotations of GitHub Actions."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from pybuild.builder.gate.rules import RULES
from pybuild.progress.formatting import rule_line, rule_text
from pybuild.progress.github import workflow_command
from pybuild.report import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pybuild.builder.events import RuleBroken


def as_text(name: str, asked: Sequence[str], found: Sequence[RuleBroken]) -> Iterator[str]:
    """A line for each finding, and one with the numbers."""
    for one in found:
        yield rule_line(one)
    broken = list(dict.fromkeys(one.rule for one in found))
    rules = "1 rule" if len(asked) == 1 else f"{len(asked)} rules"
    if broken:
        yield f"{printable(name)} breaks {len(broken)} of {rules}: {', '.join(broken)}"
    else:
        yield f"{printable(name)} keeps {'the' if len(asked) == 1 else 'all'} {rules.removeprefix('1 ')}: {', '.join(asked)}"


def as_json(name: str, asked: Sequence[str], found: Sequence[RuleBroken]) -> str:
    """One object; bytes of paths that are not UTF-8 are escaped as in JSON events."""
    findings = [
        {
            "rule": one.rule,
            "description": RULES[one.rule],
            "text": one.text,
            "path": None if one.path is None else escaped(one.path),
            "layer": one.layer,
            "instruction": one.instruction,
            "size": one.size,
        }
        for one in found
    ]
    return json.dumps({"image": escaped(name), "rules": list(asked), "findings": findings}, indent=2)


def as_annotations(name: str, found: Sequence[RuleBroken]) -> Iterator[str]:
    """A command for each finding. GitHub shows ten of a step, so the most important rule comes first."""
    for one in found:
        yield workflow_command("error", f"{printable(name)}: {rule_text(one)}", title=one.rule)


def escaped(text: str) -> str:
    """The text with bytes that are not UTF-8 as \\xNN: JSON has no surrogates alone."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")
