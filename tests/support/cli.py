"""Running pybuild as its users do: as a command, on a store of the test's own."""

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


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, object]]:
        """The events of --progress json."""
        return [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]

    def finished(self) -> dict[str, bool]:
        """Instruction -> whether it was cached, of the steps that ended."""
        return {str(e["instruction"]): bool(e["cached"]) for e in self.events if e["event"] == "step_finished"}


@dataclass(frozen=True)
class Pybuild:
    """The command with a store. `environment` is added to a clean one."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = (SCRIPT,)

    def env(self) -> dict[str, str]:
        clean = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LC_ALL": "C.UTF-8"}
        return {**clean, "PYBUILD_ROOT": str(self.root), **self.environment}

    def with_environment(self, more: Mapping[str, str]) -> Pybuild:
        """The same command with more variables in its environment."""
        return replace(self, environment={**self.environment, **more})

    def run(self, *arguments: object, cwd: Path | None = None, stdin: bytes = b"", **environment: str) -> Done:
        """Run to the end, however it ends."""
        done = subprocess.run(
            [*self.command, *map(str, arguments)],
            cwd=cwd,
            env={**self.env(), **environment},
            capture_output=True,
            input=stdin,
        )
        return Done(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))

    def __call__(self, *arguments: object, cwd: Path | None = None, stdin: bytes = b"", **environment: str) -> Done:
        """Run, and fail the test unless it succeeds."""
        done = self.run(*arguments, cwd=cwd, stdin=stdin, **environment)
        assert done.status == 0, f"pybuild {' '.join(map(str, arguments))}: status {done.status}\n{done.out}{done.err}"
        return done

    def refused(
        self, *arguments: object, status: int = 1, cwd: Path | None = None, stdin: bytes = b"", **environment: str
    ) -> str:
        """Run what must fail; return what it says. Afterwards the store is whole and nothing is left in it."""
        done = self.run(*arguments, cwd=cwd, stdin=stdin, **environment)
        assert done.status == status, f"status {done.status}, expected {status}\n{done.out}{done.err}"
        assert "Traceback" not in done.err, done.err
        self.assert_whole()
        return done.err

    def assert_whole(self) -> None:
        """The store passes fsck, and nothing is left of work in progress."""
        if not self.root.exists():
            return
        if self.command == (SCRIPT,):
            # The store is of who runs the tests, who can look himself: that takes no other interpreter.
            with Store(str(self.root)) as store:
                found = check(store)
            assert (found.damage, found.garbage) == ((), ())
        else:
            report = self.run("fsck")
            assert report.status == 0, report.out + report.err
            assert "0 damaged, 0 left over" in report.out, report.out
        assert os.listdir(self.root / "ingest") == []


def prepare_store(pybuild: Pybuild, archive: Path, context: Path) -> None:
    """Bring in the base, unpacked as a first RUN finds it, and leave nothing else: no build, no log, no record.

    `context` is a directory that will be made, where who builds can read.
    """
    pybuild("import", archive)
    write_context(context, f"FROM {BASE}\nRUN true\n")
    pybuild("-q", "--network=none", context)
    pybuild("gc", "--all")
    # By hand, because what is remembered of builds goes with newer ones only.
    for log in (pybuild.root / "logs").iterdir():
        shutil.rmtree(log)
    with closing(sqlite3.connect(pybuild.root / "metadata.db")) as tables, tables:
        for table in ("step_inputs", "build_steps", "builds"):
            tables.execute(f"DELETE FROM {table}")


def copy_store(source: Path, target: Path) -> None:
    """Trees hold hundreds of names of one busybox, which have to stay names of one file."""
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
