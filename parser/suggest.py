"""Suggestions for mistyped words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def suggest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is nearest to a mistyped one; None if none is near. Swapped letters count as one mistake."""
    best, best_distance = None, 3 if len(word) > 4 else 2
    for candidate in known:
        if abs(len(candidate) - len(word)) < best_distance and (distance := _distance(word, candidate)) < best_distance:
            best, best_distance = candidate, distance
    return best


def _distance(a: str, b: str) -> int:
    """The Damerau-Levenshtein distance in its restricted form (optimal string alignment)."""
    rows = [list(range(len(b) + 1))]
    for i, left in enumerate(a, 1):
        row = [i]
        for j, right in enumerate(b, 1):
            value = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (left != right))
            if i > 1 and j > 1 and left == b[j - 2] and a[i - 2] == right:
                value = min(value, rows[-2][j - 2] + 1)
            row.append(value)
        rows.append(row)
    return rows[-1][-1]
