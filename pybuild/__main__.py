"""The command. `python -m pybuild` and the script `pybuild` both start here."""

import sys

# `python -m` puts the working directory first in the path, and a build is often started inside of the context it
# builds: a `click.py` or a `store/` in there must not become a part of us. -P has left it out already.
if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]


def main() -> None:
    """Run the command line and exit."""
    from pybuild.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
