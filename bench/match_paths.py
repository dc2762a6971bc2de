"""Match paths against the patterns of an ignore file, as the reading of a context does: match_paths.py PATTERNS PATHS.

Both files hold one a line. The number of paths that stay behind goes to standard output.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pybuild.parser import IgnoreFile


def main() -> None:
    """Every path is asked for: the worst case, in which nothing that lies above it was left out."""
    ignore = IgnoreFile.parse(Path(sys.argv[1]).read_text())
    with open(sys.argv[2]) as paths:
        print(sum(ignore.excludes(path.rstrip("\n")) for path in paths))


if __name__ == "__main__":
    main()
