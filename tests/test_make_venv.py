"""The set-up of `.venv` on a fresh machine: what it prints, with programs in place of Python, apt-get, sudo and id."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import FIXTURES

if TYPE_CHECKING:
    from pathlib import Path

# A Python of a version; `-c` with an import of ensurepip fails before a file is there.
PYTHON = """\
case "$*" in
    -V) echo "Python 3.{minor}.1" ;;
    *version_info\\ \\<*) [ {minor} -ge 11 ] ;;
    *ensurepip*) [ -e {place}/installed ] ;;
    *-venv*) echo python3.{minor}-venv ;;
    "-m venv "*) mkdir -p "$3/bin" && cp {place}/pip "$3/bin/python" ;;
esac
"""
PIP = 'echo "WARNING: a word of pip" >&2\nexit {status}\n'
APT_GET = """\
[ "$1" = update ] || echo "debconf: delaying package configuration" >&2
echo "$*" >> {place}/apt
touch {place}/installed
[ "$1" = update ] || exit {status}
"""


class Machine:
    """A directory of programs, which are all that the script finds."""

    def __init__(self, place: Path, *, minor: int = 11, uid: int = 0, pip: int = 0, apt: int | None = 0) -> None:
        self.place = place
        for name in ("sh", "cat", "cp", "env", "mkdir", "mktemp", "rm", "touch"):
            (place / name).symlink_to(str(shutil.which(name)))
        self.add("python3", PYTHON.format(minor=minor, place=place))
        self.add("pip", PIP.format(status=pip))
        self.add("id", f"echo {uid}\n")
        if apt is not None:
            self.add("apt-get", APT_GET.format(place=place, status=apt))

    def add(self, name: str, text: str) -> None:
        program = self.place / name
        program.unlink(missing_ok=True)  # never written through a link
        program.write_text(f"#!/bin/sh\n{text}")
        program.chmod(0o755)

    def set_up(self) -> subprocess.CompletedProcess[str]:
        command = [str(FIXTURES / "make_venv.sh"), "python3", str(self.place / "venv")]
        return subprocess.run(command, env={"PATH": str(self.place)}, capture_output=True, text=True, timeout=60)


def test_a_fresh_machine_shows_two_lines(tmp_path: Path) -> None:
    done = Machine(tmp_path).set_up()
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "installing python3.11-venv with apt",
        f"installing pybuild and the libraries that it needs into {tmp_path}/venv",
    ]
    assert done.stderr == ""
    assert (tmp_path / "apt").read_text() == "update -qq\ninstall -y -qq python3.11-venv\n"


def test_sudo_installs_it_for_an_ordinary_user(tmp_path: Path) -> None:
    machine = Machine(tmp_path, uid=1000, minor=13)
    machine.add("sudo", f'echo sudo >> {tmp_path}/apt\nexec "$@"\n')
    assert machine.set_up().returncode == 0
    assert (tmp_path / "apt").read_text() == "sudo\nupdate -qq\nsudo\ninstall -y -qq python3.13-venv\n"


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        ({"minor": 10}, "pybuild needs Python 3.11 or newer, and this is Python 3.10.1; name another one: make PYTHON=python3.12"),
        ({"uid": 1000}, "python3 has no venv module, and there is no sudo; let root run: apt-get install python3.11-venv"),
        ({"apt": None}, "python3 has no venv module; install it with this system's package manager"),
    ],
)  # fmt: skip
def test_what_is_missing_is_one_line(machine: dict[str, int], message: str, tmp_path: Path) -> None:
    done = Machine(tmp_path, **machine).set_up()
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{message}\n")


def test_what_apt_says_is_shown_if_it_fails(tmp_path: Path) -> None:
    done = Machine(tmp_path, apt=100).set_up()
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "debconf: delaying package configuration",
        "apt-get cannot install python3.11-venv, see above; it needs the network",
    ]


def test_what_pip_says_is_shown_if_it_fails(tmp_path: Path) -> None:
    done = Machine(tmp_path, pip=1).set_up()
    assert done.returncode == 1
    assert done.stderr == "WARNING: a word of pip\npip cannot install them, see above; it needs the network\n"


def test_no_file_is_left(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    machine = Machine(tmp_path)
    temporary.mkdir()
    machine.add("mktemp", f'exec {shutil.which("mktemp")} "{temporary}/XXXXXX"\n')
    assert machine.set_up().returncode == 0
    assert list(temporary.iterdir()) == []
