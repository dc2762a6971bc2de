"""The test ids that name a language rule, such as `id="E11-a lone quote"`, and docs/dev/language-rules.md agree."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
RULES = TESTS.parent / "docs" / "dev" / "language-rules.md"
_USED = re.compile(r"""["']([A-Z]\d{1,2})[- ]""")
_ROW = re.compile(r"^\| ([A-Z]\d{1,2}) \| (.*)", re.MULTILINE)
_UNTESTED = "*(not tested by id)*"


def used_ids() -> set[str]:
    texts = (path.read_text() for path in TESTS.rglob("*.py") if path != Path(__file__))
    return {match[1] for text in texts for match in _USED.finditer(text)}


def rows() -> list[tuple[str, str]]:
    return [(match[1], match[2]) for match in _ROW.finditer(RULES.read_text())]


def test_each_id_that_a_test_uses_has_a_row_in_the_document() -> None:
    assert used_ids() - {rule for rule, _ in rows()} == set()


def test_each_row_is_used_by_a_test_or_marked_as_untested() -> None:
    marked = {rule for rule, text in rows() if _UNTESTED in text}
    assert {rule for rule, _ in rows()} - used_ids() == marked


def test_the_document_has_all_language_rules() -> None:
    assert {rule for rule, _ in rows()} >= {f"E{number}" for number in range(1, 69)}
