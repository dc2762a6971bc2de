"""Counting words."""

import re
from collections import Counter


def count(text: str) -> dict[str, int]:
    """How often each word occurs, the most frequent first; words of the same number by the alphabet."""
    words = Counter(re.findall(r"\w+", text.lower()))
    return dict(sorted(words.items(), key=lambda pair: (-pair[1], pair[0])))
