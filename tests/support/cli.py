"""Runs pybuild as users do: as a command, with a store for each test."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pybuild.store.maintenance.fsck import check
from pybuild.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKOUT = Path(__file__).resolve().parent.parent.parent
FIXTURES = CHECKOUT / "fixtures"
SCRIPT = str(Path(sys.executable).parent / "pybuild")
BASE = "pybuild.test/base"
# What `make coverage` needs in every process: fixtures/measured/sitecustomize.py.
MEASURING = {name: os.environ[name] for name in ("PYTHONPATH", "PYBUILD_LINES") if "PYBUILD_LINES" in os.environ}


@dataclass(frozen=True)
class Done:
    """The result of a command."""

    status: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, object]]:
        """The events of --progress json."""
        return [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]

    def finished(self) -> dict[str, bool]:
        """Instruction -> whether it was cached, for the steps that ended."""
        return {str(e["instruction"]): bool(e["cached"]) for e in self.events if e["event"] == "step_finished"}


@dataclass(frozen=True)
class Pybuild:
    """The command with a store. `environment` is added to a clean environment."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = (SCRIPT,)

    def env(self) -> dict[str, str]:
        clean = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LC_ALL": "C.UTF-8"}
        return {**clean, **MEASURING, "PYBUILD_ROOT": str(self.root), **self.environment}

    def with_environment(self, more: Mapping[str, str]) -> Pybuild:
        """The same command with more variables in its environment."""
        return replace(self, environment={**self.environment, **more})

    def run(self, *arguments: object, cwd: Path | None = None, stdin: bytes = b"", **environment: str) -> Done:
        """Run a command that can succeed or fail."""
        done = subprocess.run(
            [*self.command, *map(str, arguments)],
            cwd=cwd,
            env={**self.env(), **environment},
            capture_output=True,
            input=stdin,
        )
        return Done(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))

    def __call__(self, *arguments: object, cwd: Path | None = None, stdin: bytes = b"", **environment: str) -> Done:
        """Run a command that must succeed."""
        done = self.run(*arguments, cwd=cwd, stdin=stdin, **environment)
        assert done.status == 0, f"pybuild {' '.join(map(str, arguments))}: status {done.status}\n{done.out}{done.err}"
        return done

    def refused(
        self, *arguments: object, status: int = 1, cwd: Path | None = None, stdin: bytes = b"", **environment: str
    ) -> str:
        """Run a command that must fail without damage to the store; return its standard error."""
        done = self.run(*arguments, cwd=cwd, stdin=stdin, **environment)
        assert done.status == status, f"status {done.status}, expected {status}\n{done.out}{done.err}"
        assert "Traceback" not in done.err, done.err
        self.assert_whole()
        return done.err

    def assert_whole(self) -> None:
        """Assert that the store passes fsck and that no unfinished work is left in it."""
        if not self.root.exists():
            return
        if self.command == (SCRIPT,):
            # The store belongs to the user of the tests, so it can be checked here without another interpreter.
            with Store(str(self.root)) as store:
                found = check(store)
            assert (found.damage, found.garbage) == ((), ())
        else:
            report = self.run("fsck")
            assert report.status == 0, report.out + report.err
            assert "0 damaged, 0 left over" in report.out, report.out
        assert os.listdir(self.root / "ingest") == []


def prepare_store(pybuild: Pybuild, archive: Path, context: Path) -> None:
    """Import the base and unpack it as a first RUN does; leave no build, log or record in the store.

    `context` is a directory to create, in a place that the building user can read.
    """
    pybuild("import", archive)
    write_context(context, f"FROM {BASE}\nRUN true\n")
    pybuild("-q", "--network=none", context)
    pybuild("gc", "--all")
    # By hand: gc keeps the last builds.
    for log in (pybuild.root / "logs").iterdir():
        shutil.rmtree(log)
    with closing(sqlite3.connect(pybuild.root / "metadata.db")) as tables, tables:
        for table in ("step_inputs", "build_steps", "builds"):
            tables.execute(f"DELETE FROM {table}")


def copy_store(source: Path, target: Path) -> None:
    """Copy with cp -a: trees contain hundreds of hard links to one busybox, which must stay hard links."""
    subprocess.run(["cp", "-a", source, target], check=True)


def write_context(directory: Path, recipe: str, **files: str | bytes) -> Path:
    """Make a context; `__` in a keyword stands for `/`, `_` before a suffix stays. Returns the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "Buildfile").write_text(recipe)
    for name, content in files.items():
        path = directory / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return directory
