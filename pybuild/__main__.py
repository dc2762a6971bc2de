"""The entry point of `python -m pybuild` and of the script `pybuild`."""

import gc
import os
import sys

# `python -m` puts the working directory first in sys.path, and that is often the context of the build: pybuild must not
# import a `click.py` from there. With -P it is not in sys.path.
if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]

_GC_THRESHOLD = 50_000  # new objects between two collections; imports make most of them and none is garbage


def main() -> None:
    """Run the command line and exit."""
    gc.set_threshold(_GC_THRESHOLD)
    from pybuild.cli import run

    status = run(sys.argv[1:])
    if status == 0:
        # All files are written and closed; the normal shutdown of the interpreter takes a tenth of a cached build.
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    main()
