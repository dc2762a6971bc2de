"""What breaks the rules of an image, as JUnit's XML: a test case for each rule, which fails if the image breaks it.

There is no standard; these are the elements and attributes that GitLab, Jenkins and Azure Pipelines read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from pybuild.builder.gate.rules import RULES
from pybuild.progress.formatting import rule_text
from pybuild.report import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.builder.events import RuleBroken


def as_junit(name: str, asked: Sequence[str], found: Sequence[RuleBroken]) -> str:
    """One document with one suite. Characters that XML cannot hold are escaped."""
    shown = printable(name)
    cases = []
    broken = 0
    for rule in asked:
        texts = [rule_text(one) for one in found if one.rule == rule]
        head = f"    <testcase classname={quoteattr(shown)} name={quoteattr(rule)}"
        if not texts:
            cases.append(f"{head}/>")
            continue
        broken += 1
        message = texts[0] if len(texts) == 1 else f"{len(texts)} findings: {RULES[rule]}"
        cases += [f"{head}>", f"      <failure type={quoteattr(rule)} message={quoteattr(message)}>"]
        cases += [*map(escape, texts), "      </failure>", "    </testcase>"]
    counts = f'tests="{len(asked)}" failures="{broken}" errors="0" skipped="0"'
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites name="pybuild check-image" {counts}>',
        f"  <testsuite name={quoteattr(shown)} {counts}>",
        *cases,
        "  </testsuite>",
        "</testsuites>",
    ]
    return "\n".join(lines)
