"""The memory that long words take, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

SIZE = 400_000  # characters
PROGRAM = r"""
import resource, sys
from pybuild.parser import parse, expand_words
from pybuild.parser.words import expand
parse('FROM a\nENV a=b c="d"\nCMD ["a"]\n', "Dockerfile")
expand("${a:-b}", {})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
word = eval(sys.stdin.read())
parse("FROM a\nENV a=" + word + "\n", "Dockerfile")
try:
    expand(word, {})
    expand_words(word, {})
except Exception as error:
    assert "limit" in str(error), error
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize(
    "word",
    [
        f"'x' * {SIZE}",
        f"''.join('${{v%d:-' % i + 'x' * {SIZE // 64} for i in range(64)) + '}}' * 64",
        f"'a\"b\"' * {SIZE // 4}",
        f"'\"' + 'x' * {SIZE} + '\"'",
        f"'\\\\a' * {SIZE // 2}",
        f"'$a' * {SIZE // 2}",
        f"'${{a##' + '*x' * {SIZE // 2} + '}}'",
    ],
)
def test_a_long_word_takes_little_memory(word: str) -> None:
    """400 bytes a character would be 160 MB."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], input=word, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 40_000, f"{done.stdout} KiB"
