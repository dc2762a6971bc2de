"""The command. `python -m pybuild` and the script `pybuild` both start here."""

import gc
import os
import sys

# `python -m` puts the working directory first in the path, and a build is often started inside of the context it
# builds: a `click.py` or a `store/` in there must not become a part of us. -P has left it out already.
if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]

_NEW_OBJECTS = 50_000  # between two looks for garbage: of what imports make, the most of a cached build, nothing is


def main() -> None:
    """Run the command line and exit."""
    gc.set_threshold(_NEW_OBJECTS)
    from pybuild.cli import run

    status = run(sys.argv[1:])
    if status == 0:
        # All is written and closed. To take the interpreter down, module by module, would be a tenth of a cached build.
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    main()
