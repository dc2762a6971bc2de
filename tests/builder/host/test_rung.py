"""What is said of an isolation that is less than full, and of a filesystem in memory."""

from __future__ import annotations

from pathlib import Path

from pybuild.builder.host.mountinfo import filesystem_of
from pybuild.builder.host.rung import FULL, Rung
from pybuild.builder.sandbox.trial import HOST_NAME, PROC, SYS

ALL = Rung(((HOST_NAME, "x"), (PROC, "x"), (SYS, "x")), ("", ""))


def test_the_note_lists_what_is_refused() -> None:
    assert "refuses a new host name, a new /proc and a new /sys;" in ALL.note()
    assert "refuses a new host name and a new /sys;" in Rung((ALL.refused[0], ALL.refused[2]), None).note()
    assert "refuses a new /proc;" in Rung((ALL.refused[1],), None).note()


def test_only_options_that_help_are_named() -> None:
    assert "seccomp=unconfined" in ALL.more()
    assert "unmask=ALL" in ALL.more()
    assert "unmask" not in Rung((ALL.refused[0],), None).more()
    assert "seccomp" not in Rung((ALL.refused[1],), None).more()


def test_full_has_everything() -> None:
    assert FULL.is_full
    assert all(FULL.has_own(piece) and not ALL.has_own(piece) for piece in (HOST_NAME, PROC, SYS))


def test_the_filesystem_of_a_path(tmp_path: Path) -> None:
    assert filesystem_of("/dev/shm") == "tmpfs"
    assert filesystem_of("/proc/self") == "proc"
    link = tmp_path / "link"
    link.symlink_to("/proc")
    assert filesystem_of(str(link)) == "proc"
    assert filesystem_of(str(tmp_path)) not in ("", "proc")
