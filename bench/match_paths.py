"""Match paths against the patterns of an ignore file, as a build does with its context: match_paths.py PATTERNS PATHS.

Both files have one item per line. Prints the number of excluded paths.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pybuild.parser import IgnoreFile


def main() -> None:
    """Match every path: the worst case, in which no directory above a path is excluded."""
    ignore = IgnoreFile.parse(Path(sys.argv[1]).read_text())
    with open(sys.argv[2]) as paths:
        print(sum(ignore.excludes(path.rstrip("\n")) for path in paths))


if __name__ == "__main__":
    main()
