"""A process that is killed at any commit leaves a store without damage, and the same command passes afterwards."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support import killed_at_commit
from tests.support.cli import BASE, Pybuild, write_context

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = f"""\
FROM {BASE} AS made
RUN echo made > /made
FROM {BASE}
COPY file /
COPY --from=made /made /made
RUN chmod 600 /made
"""
MOST = 100  # commits of one command
EVERY = int(os.environ.get("PYBUILD_KILL_EVERY", "3"))  # 1 kills at each commit


def kill_everywhere(pybuild: Pybuild, tmp_path: Path, when: str, *arguments: object) -> list[str]:
    """Run a command on copies of a store, killed at one commit after another, and then again; return what it printed."""
    outputs = []
    for number in range(1 if when == "before" else EVERY, MOST, EVERY):
        root = tmp_path / f"{when}-{number}"
        if pybuild.root.exists():
            shutil.copytree(pybuild.root, root, symlinks=True)
        command = (sys.executable, killed_at_commit.__file__, when, str(number))
        killed = Pybuild(root, pybuild.environment, command).run(*arguments)
        after = Pybuild(root, pybuild.environment)
        checked = after.run("fsck")
        assert ", 0 damaged," in checked.out, (number, checked.out)
        done = after.run(*arguments)
        # rmi and tag find their work done if the commit was the one that does it.
        assert done.status == 0 or (arguments[0] in ("rmi",) and "no image" in done.err), (number, done.err)
        assert ", 0 damaged," in after("fsck").out, number
        outputs.append(done.out)
        shutil.rmtree(root)
        if killed.status != killed_at_commit.KILLED:
            assert killed.status == 0, killed.err
            return outputs
    raise AssertionError(f"more than {MOST} commits")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_build(pybuild: Pybuild, tmp_path: Path, when: str) -> None:
    context = write_context(tmp_path / "c", RECIPE, file="x")
    environment = {"SOURCE_DATE_EPOCH": "1700000000"}
    outputs = kill_everywhere(
        Pybuild(pybuild.root, environment), tmp_path, when, "build", "--network=none", "-t", "app", context
    )
    assert len(outputs) > 5 // EVERY
    assert len(set(outputs)) == 1


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("verb", ["import", "tag", "rmi", "gc"])
def test_other_verbs(pybuild: Pybuild, tmp_path: Path, verb: str, when: str) -> None:
    archive = tmp_path / "base.tar"
    pybuild("export", BASE, "-o", f"type=oci,dest={archive}")
    arguments = {
        "import": ("import", archive, "other:1"),
        "tag": ("tag", BASE, "other:1"),
        "rmi": ("rmi", BASE),
        "gc": ("gc", "--all"),
    }[verb]
    if verb == "import":
        pybuild("reset")
    assert len(kill_everywhere(pybuild, tmp_path, when, *arguments)) >= 1
