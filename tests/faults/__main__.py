"""`make faults`: each kind of fault many times, and a table of what came out. Exit status 1 if anything went wrong.

    python -m tests.faults [--rounds N] [--minutes N] [--seed N] [--place DIR] [KIND ...]

Each kind stops after its rounds, or after its share of the time. The seed is printed; with the same seed the same
works are disturbed in the same ways, but the moments of a signal depend on how fast the machine is.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.figures import Budget, table
from tests.faults.kinds import KINDS
from tests.faults.trial import ground


def main() -> int:
    """Run the kinds one after another."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--rounds", type=int, help="the rounds of each kind [default: its own number]")
    parser.add_argument("--minutes", type=float, default=60.0, help="the time for all kinds")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--place", type=Path, help="a directory for all files [default: one below TMPDIR]")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(kind.name for kind in KINDS))
    given = parser.parse_args()
    if unknown := set(given.kinds) - {kind.name for kind in KINDS}:
        parser.error(f"no such kind: {', '.join(sorted(unknown))}")
    chosen = [kind for kind in KINDS if not given.kinds or kind.name in given.kinds]
    assert os.geteuid() == 0, "the faults need root; `make faults` asks sudo for it"
    print(f"seed {given.seed} (again with PYBUILD_SEED={given.seed})", flush=True)
    place = Path(tempfile.mkdtemp(prefix="pybuild-faults-", dir=given.place))
    found = []
    end = time.monotonic() + given.minutes * 60
    try:
        with ground(place / "ground") as prepared:
            for number, kind in enumerate(chosen):
                # A kind that is done early leaves its time to those after it.
                seconds = (end - time.monotonic()) * kind.share / sum(one.share for one in chosen[number:])
                trial = prepared.trial(kind.name, given.seed)
                kind.run(trial, Budget(given.rounds or kind.rounds, seconds))
                found.append(trial.figures)
                print(f"{kind.name}: {trial.figures.rounds} rounds", flush=True)
    finally:
        shutil.rmtree(place)
    print(f"\n{table(found)}")
    return int(not all(figures.clean for figures in found))


if __name__ == "__main__":
    sys.exit(main())
