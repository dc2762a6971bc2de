"""`make examples`: build every project of examples/, run what comes out, and print a table; a quarter of an hour.

    python -m tests.examples [--pull] [NAME…]

The base is made here, by mmdebstrap, once; with --pull it is docker.io's. Everything is in .examples.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from typing import TYPE_CHECKING

from tests.examples.bases import machine, make_base
from tests.examples.containers import CheckFailed
from tests.examples.table import EXAMPLES
from tests.examples.trial import HEADER, attempt
from tests.support.cli import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

PLACE = CHECKOUT / ".examples"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.examples")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(EXAMPLES)} [all]")
    parser.add_argument("--pull", action="store_true", help="pull debian:trixie-slim from docker.io, instead of making one")
    parser.add_argument("--keep", action="store_true", help="keep the stores in .examples")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in EXAMPLES:
            parser.error(f"there is no example {name}: {', '.join(EXAMPLES)}")
    rows, failed = [], False
    for name in arguments.names or EXAMPLES:
        wanted = {platform.partition("/")[2] for platform in EXAMPLES[name].platforms} or {machine()}
        try:
            bases = {} if arguments.pull else {architecture: base(architecture) for architecture in sorted(wanted)}
            print(f"{name}: building and running it", flush=True)
            rows.append(attempt(name, EXAMPLES[name], PLACE / name, bases).row())
        except CheckFailed as error:
            failed = True
            rows.append(f"| {name} | failed | | | | |")
            print(f"{name}: {error}", file=sys.stderr, flush=True)
        if not arguments.keep and (PLACE / name).exists():
            shutil.rmtree(PLACE / name)
    print("\n".join(["", HEADER, *rows]))
    return int(failed)


def base(architecture: str) -> Path:
    """The archive of the base for a processor; made if it is not there."""
    archive = PLACE / f"debian-{architecture}.tar"
    if not archive.exists():
        PLACE.mkdir(exist_ok=True)
        begun = time.monotonic()
        print(f"no registry is asked: mmdebstrap makes debian:trixie-slim for {architecture}", flush=True)
        make_base(architecture, archive)
        print(f"made in {time.monotonic() - begun:.0f} s, in {archive.relative_to(CHECKOUT)}", flush=True)
    return archive


if __name__ == "__main__":
    sys.exit(main())
