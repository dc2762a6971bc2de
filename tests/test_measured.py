"""What `make coverage` measures: lines of processes that never come to an orderly end."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import FIXTURES

if TYPE_CHECKING:
    from pathlib import Path

ENDS = {
    "exec": 'os.execv("/bin/true", ["true"])',
    "exit": "os._exit(0)",
    "signal": "os.kill(os.getpid(), 9)",
    "root": 'os.chroot("/proc")',
    "worker": 'subprocess.run([sys.executable, "-SI", "-c", "import sys; sys.path.append(sys.argv[1]); import other", sys.argv[1]])',
}


@pytest.mark.parametrize("end", ENDS)
def test_lines_count_however_their_process_ends(tmp_path: Path, end: str) -> None:
    code = tmp_path / "builder"
    code.mkdir()
    (code / "one.py").write_text(
        f"import os, subprocess, sys\nif os.fork():\n    os.wait()\nelse:\n    {ENDS[end]}\n    os._exit(0)\n    'never'\n"
    )
    (code / "other.py").write_text("a = 1\nif a == 2:\n    a = 3\n")
    (tmp_path / "files").write_text("other.py\none.py\n")
    (tmp_path / "lines").write_bytes(bytes(2048))
    environment = {**os.environ, "PYTHONPATH": str(FIXTURES / "measured"), "PYBUILD_LINES": str(tmp_path)}
    subprocess.run([sys.executable, code / "one.py", code], env=environment, check=True)
    ran = (tmp_path / "lines").read_bytes()
    other = {line for line in range(1, 1024) if ran[line]}
    one = {line for line in range(1, 1024) if ran[1024 + line]}
    assert other == ({1, 2} if end == "worker" else set())
    assert one == {1, 2, 3, 5} | ({6} if end in ("root", "worker") else set())
