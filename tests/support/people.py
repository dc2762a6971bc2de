"""The users that run pybuild in tests: root, users with and without subordinate ids, root in containers."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.support.cli import SCRIPT, Pybuild

_SUPPORT = Path(__file__).parent
_FIRST, _COUNT = 600_000, 65_536  # subordinate ids for the user that needs some, if useradd gave none


@dataclass(frozen=True)
class Person:
    """A user with a home directory for its store and contexts."""

    name: str
    uid: int
    prefix: tuple[str, ...]  # of commands that run as this user; they run in /, so paths must be absolute
    home: Path

    def pybuild(self, **environment: str) -> Pybuild:
        return Pybuild(self.home / "store", environment, (*self.prefix, SCRIPT))

    def take(self, file: Path) -> Path:
        """Copy a file into the home, readable for all users."""
        copy = Path(shutil.copy(file, self.home))
        copy.chmod(0o644)
        return copy

    def context(self, name: str, recipe: str, **files: str | bytes) -> Path:
        """A context in the home, readable for all users, with fixed times."""
        directory = self.home / name
        directory.mkdir(mode=0o755)
        for path, text in {"Buildfile": recipe, **files}.items():
            (directory / path).write_bytes(text if isinstance(text, bytes) else text.encode())
            (directory / path).chmod(0o644)
            os.utime(directory / path, (1_600_000_000, 1_600_000_000))
        return directory


def add_user(name: str, *, subordinate: bool) -> int:
    """Create an ordinary user if it does not exist; return the uid. A lock serialises parallel test processes."""
    lock = os.open("/etc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _add_user(name, subordinate=subordinate)
    finally:
        os.close(lock)


def _add_user(name: str, *, subordinate: bool) -> int:
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        subprocess.run(["useradd", "--create-home", "--shell", "/bin/sh", name], check=True)
        found = pwd.getpwnam(name)
    for path in (Path("/etc/subuid"), Path("/etc/subgid")):
        lines = path.read_text().splitlines() if path.exists() else []
        mine = [line for line in lines if line.startswith(f"{name}:")]
        if bool(mine) is not subordinate:
            kept = [line for line in lines if line not in mine]
            kept += [f"{name}:{_FIRST}:{_COUNT}"] if subordinate else []
            _replace(path, "".join(line + "\n" for line in kept))
    return found.pw_uid


def _replace(path: Path, text: str) -> None:
    """Replace a file atomically, because newuidmap(1) can read it at the same time."""
    new = path.with_name(f"{path.name}.pybuild-test")
    new.write_text(text)
    new.chmod(0o644)
    os.rename(new, path)


def as_user(name: str) -> tuple[str, ...]:
    """What makes a command run as another user, wherever interpreter and checkout are."""
    return (sys.executable, str(_SUPPORT / "as_user.py"), name)


def make_person(kind: str) -> Person:
    """`root`, `range` (an ordinary user with subordinate ids), `single` (one without), `container` (root of 65,536 ids)
    or `nested` (root of one id). Remove the home with `forget`.
    """
    prefix: tuple[str, ...]
    match kind:
        case "root":
            name, uid, prefix = "root", 0, ()
        case "range":
            name = "pybuild-range"
            uid, prefix = add_user(name, subordinate=True), as_user(name)
        case "single":
            name = "pybuild-single"
            uid, prefix = add_user(name, subordinate=False), as_user(name)
        case "container":
            inside = (sys.executable, str(_SUPPORT / "as_container_root.py"), str(_FIRST))
            name, uid, prefix = "root", _FIRST, (*as_user("root"), *inside)
        case "nested":
            name, uid, prefix = "root", 0, ("unshare", "--user", "--map-root-user")
        case _:
            raise AssertionError(kind)
    home = Path(tempfile.mkdtemp(prefix="pybuild-test-"))
    os.chown(home, uid, uid if uid else 0)
    home.chmod(0o755)
    return Person(name, uid, prefix, home)


def forget(person: Person) -> None:
    shutil.rmtree(person.home, ignore_errors=True)
