"""What the installation of the tests' programs prints, on a machine that lacks one of them: apt-get is another program here."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import FIXTURES

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = FIXTURES / "install_tools.sh"
WARNING = "debconf: delaying package configuration"


@pytest.mark.parametrize(("status", "errors"), [(0, ""), (100, f"{WARNING}\n")])
def test_words_of_apt_are_shown_if_it_fails(status: int, errors: str, tmp_path: Path) -> None:
    programs, temporary = tmp_path / "programs", tmp_path / "temporary"
    programs.mkdir()
    temporary.mkdir()
    tools = re.findall(r"^need (\S+) ", SCRIPT.read_text(), re.MULTILINE)
    assert "htpasswd" in tools
    for name in {"docker-registry", *tools} - {"htpasswd"}:
        (programs / name).write_text("#!/bin/sh\n")
    (programs / "id").write_text("#!/bin/sh\necho 0\n")
    (programs / "apt-get").write_text(
        f"#!/bin/sh\necho \"$*\" >> {tmp_path}/apt\n[ $1 = update ] || {{ echo {WARNING} >&2; exit {status}; }}\n"
    )
    for path in programs.iterdir():
        path.chmod(0o755)
    for name in ("sh", "cat", "env", "ls", "mktemp", "rm"):
        (programs / name).symlink_to(str(shutil.which(name)))
    environment = {"PATH": str(programs), "TMPDIR": str(temporary)}
    done = subprocess.run(["/bin/sh", str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (int(status > 0), errors)
    assert done.stdout == "installing with apt: apache2-utils\n"
    assert (tmp_path / "apt").read_text().splitlines()[-1] == "install -y -qq --no-install-recommends apache2-utils"
    assert list(temporary.iterdir()) == []
