"""A disk that fails while a build writes to it: a sync that fails is a failure, and the store stays whole."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import BASE, SCRIPT, Pybuild, write_context

if TYPE_CHECKING:
    from pathlib import Path

SYNCS = ("fsync", "fdatasync", "syncfs")
COPY = f"FROM {BASE}\nCOPY f /f\n"
MANY = f"FROM {BASE}\nRUN echo 1 > /1\n" + "".join(f"COPY f /f{n}\n" for n in range(20))


def traced(pybuild: Pybuild, context: Path, trace: Path, *options: str) -> tuple[int, list[tuple[str, str]]]:
    """A tagged build under strace: its status, and its sync calls with the file of each."""
    done = subprocess.run(
        (
            *("strace", "-f", "-qq", "-y", "-o", str(trace), f"-etrace={','.join(SYNCS)}", *options),
            *(SCRIPT, "-q", "--network=none", "-t", "app", str(context)),
        ),
        env=pybuild.env(),
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, re.findall(r"\b(fsync|fdatasync|syncfs)\(\d+<([^>]*)>", trace.read_text())


@pytest.mark.parametrize("recipe", [COPY, MANY], ids=["few files", "many files"])
def test_a_sync_that_fails_fails_the_build(pybuild: Pybuild, tmp_path: Path, recipe: str) -> None:
    context, trace, seed = write_context(tmp_path / "c", recipe, f="x"), tmp_path / "trace", tmp_path / "seed"
    os.rename(pybuild.root, seed)

    def build(*options: str) -> tuple[int, list[tuple[str, str]]]:
        subprocess.run(f"rm -rf {pybuild.root}; cp -a {seed} {pybuild.root}", shell=True, check=True)
        return traced(pybuild, context, trace, *options)

    status, calls = build()
    assert status == 0
    if recipe == MANY:
        # SQLite moves a large log into the database at the end of the process: it is safe already.
        assert [os.path.basename(path) for _, path in calls[-2:]] == ["metadata.db-wal", "metadata.db"]
        calls = calls[:-2]
    # The end of the process syncs nothing else.
    assert all(os.path.basename(path) != "metadata.db" for _, path in calls)
    assert os.path.basename(calls[-1][1]) == "metadata.db-wal"
    seen: Counter[str] = Counter()
    outcomes = {}
    step = 2 if "PYBUILD_SHARE" in os.environ else 1
    for number, (call, path) in enumerate(calls):
        seen[call] += 1
        if number % step:
            continue
        status, _ = build(f"-einject={call}:error=EIO:when={seen[call]}")
        outcomes[f"{call} {seen[call]} {os.path.basename(path)}"] = status
        pybuild("gc")
        pybuild.assert_whole()
        assert pybuild.run("-q", "--network=none", "-t", "app", context).status == 0
    # SQLite itself ignores this one; the same directory is synced again before anything is called safe.
    outcomes.pop("fdatasync 2 store", None)
    assert set(outcomes.values()) == {1}, outcomes
