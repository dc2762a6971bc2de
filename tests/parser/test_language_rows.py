"""Every rule of the recipe language has a test row named by its number, or is known to be decided elsewhere.

A row is a test's id that begins with the number: `id="E11-single quotes are literal"`. What the recorded cases of
tests/conformance decide, or tests of another name, is in the table below; a number leaves it when it gets a row.
"""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
RULES = range(1, 69)
_ROW = re.compile(r"""["']E(\d{1,2})[- ]""")

# The number of a rule -> what it is about, and where it is tested; "-" where it waits for its feature.
ELSEWHERE: dict[int, str] = {
    32: "USER of a RUN: conformance/cases/run-unknown-user-fails builder/test_users.py",
    33: "the image's passwd and group: builder/test_users.py",
    34: "a RUN that changes nothing: conformance/cases/run-empty-change",
    44: "hard links, sockets, devices: builder/test_context.py",
    45: "COPY --chown: conformance/cases/copy-chown-chmod builder/test_users.py",
    56: "ignored files that the build reads: conformance/cases/ignore-buildfile-itself",
    57: "whiteouts: conformance/cases/run-delete-lower store/test_changes.py",
    58: "the entries of a layer: store/test_changes.py",
    59: "overlays: store/test_changes.py",
}


def rows() -> set[int]:
    """The numbers of all rules with a row anywhere under tests/."""
    texts = (path.read_text() for path in TESTS.rglob("*.py") if path != Path(__file__))
    return {int(match[1]) for text in texts for match in _ROW.finditer(text)}


def test_the_table_of_what_is_decided_elsewhere_is_exact() -> None:
    assert sorted(ELSEWHERE) == sorted(set(RULES) - rows()), "a rule with a row leaves the table, one without enters it"


def test_rows_name_rules_that_there_are() -> None:
    assert rows() <= set(RULES)


def test_the_places_in_the_table_are_there() -> None:
    for number, place in ELSEWHERE.items():
        for word in place.split(": ", 1)[1].split():
            if "/" in word:
                assert (TESTS / word.rstrip(",")).exists(), f"E{number}: {word}"
