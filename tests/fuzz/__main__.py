"""`make fuzz`: fuzzes targets side by side, each in a process of its own, and says what was found.

What it learns stays in .fuzz/: TARGET/corpus has inputs that reach other code than all others, TARGET/log what libFuzzer
writes, findings/ the inputs that show faults. A later run continues from there.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.fuzz.target import CORPUS, HERE, load, names

CHECKOUT = HERE.parent.parent
WORK = CHECKOUT / ".fuzz"
FINDINGS = WORK / "findings"
SECONDS_OF_ONE = 20  # the time after which an input counts as one that does not end
MEGABYTES = 1024  # the memory that a target may use
_STATUS = re.compile(r"^#(\d+)\s.*cov: (\d+) ft: (\d+) corp: (\d+)\S* .*exec/s: (\d+)", re.MULTILINE)


def fuzz(name: str, seconds: int) -> bool:
    """Fuzz one target and print a line about it. Returns whether a fault was found."""
    target = load(name)
    place = WORK / name
    learned, seeds = place / "corpus", place / "seeds"
    for directory in (learned, seeds, FINDINGS, CORPUS / name):
        directory.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (seeds / str(number)).write_bytes(seed)
    words = place / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
    before = set(FINDINGS.iterdir())
    command = [
        sys.executable, "-m", "tests.fuzz.fuzz", name, f"-max_total_time={seconds}", f"-timeout={SECONDS_OF_ONE}",
        f"-rss_limit_mb={MEGABYTES}", f"-max_len={target.longest}", f"-artifact_prefix={FINDINGS}/{name}-",
        f"-dict={words}", "-print_final_stats=1", str(learned), str(seeds), str(CORPUS / name),
    ]  # fmt: skip
    with open(place / "log", "wb") as log:
        done = subprocess.run(command, cwd=CHECKOUT, stdout=log, stderr=subprocess.STDOUT)
    text = (place / "log").read_text(errors="replace")
    status = _STATUS.findall(text)
    runs, edges, features, kept, speed = status[-1] if status else ("0",) * 5
    found = sorted(path for path in set(FINDINGS.iterdir()) - before if path.name.startswith(f"{name}-"))
    print(
        f"{name:<14} {runs:>9} inputs {speed:>6}/s  {edges:>5} edges {features:>6} features {kept:>5} kept  "
        f"{'FAULT' if found or done.returncode else 'no fault'}",
        flush=True,
    )
    for path in found:
        print(f"    {sys.executable} -m tests.fuzz.replay {name} {path.relative_to(CHECKOUT)}")
    if done.returncode and not found:
        print(f"    libFuzzer ended with status {done.returncode}: see {(place / 'log').relative_to(CHECKOUT)}")
    return bool(found or done.returncode)


def _escaped(word: bytes) -> str:
    """A word as a dictionary of libFuzzer has it."""
    return "".join(f"\\x{byte:02x}" for byte in word)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz the readers of outside input.")
    parser.add_argument("--minutes", type=float, default=10, help="of each target [10]")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="targets side by side [the number of cores]")
    parser.add_argument("targets", nargs="*", choices=[*names(), []], metavar="TARGET", help=", ".join(names()))
    arguments = parser.parse_args()
    chosen = arguments.targets or names()
    with ThreadPoolExecutor(arguments.jobs) as threads:
        faults = list(threads.map(lambda name: fuzz(name, round(arguments.minutes * 60)), chosen))
    return 1 if any(faults) else 0


if __name__ == "__main__":
    sys.exit(main())
