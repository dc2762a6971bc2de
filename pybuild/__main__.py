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
    if None in (sys.stdin, sys.stdout, sys.stderr):
        _open_closed_streams()
    if "PYBUILD_CONTAINER_ROOT" in os.environ:  # set by the program that starts pybuild in its own image
        from pybuild.builder.sandbox.container_root import entered

        entered()
    try:
        from pybuild.cli import run
        from pybuild.store.system import process_end

        process_end.at_once = True
        status = run(sys.argv[1:])
    except KeyboardInterrupt:  # Ctrl-C during the imports: `run` takes over the signals
        print("error: interrupted", file=sys.stderr)
        status = 130
    if status == 0:
        # All files are written and closed; the normal shutdown of the interpreter takes a tenth of a cached build.
        os._exit(status)
    sys.exit(status)


def _open_closed_streams() -> None:
    """Open /dev/null in place of the standard streams that the caller has closed: else files of the store get their numbers."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    sys.stdin = sys.stdin or open(0)
    sys.stdout = sys.stdout or open(1, "w")
    sys.stderr = sys.stderr or open(2, "w")


if __name__ == "__main__":
    main()
