"""Every rule of the recipe language has a test row named by its number.

A row is a test's id that begins with the number: `id="E11-single quotes are literal"`.
"""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
RULES = range(1, 69)
_ROW = re.compile(r"""["']E(\d{1,2})[- ]""")


def test_every_rule_has_a_row_and_every_row_a_rule() -> None:
    texts = (path.read_text() for path in TESTS.rglob("*.py") if path != Path(__file__))
    assert sorted({int(match[1]) for text in texts for match in _ROW.finditer(text)}) == list(RULES)
