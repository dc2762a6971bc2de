"""A worker that is to enter the namespaces of a process that has been killed meanwhile."""

from __future__ import annotations

import os
import socket
import subprocess
import sys


def test_it_ends_without_a_word() -> None:
    """The main process tells the user that a worker was killed; a second text would look like a bug."""
    gone = subprocess.Popen(["true"])
    pidfd = os.pidfd_open(gone.pid)
    gone.wait()
    ours, theirs = socket.socketpair()
    code = f"from pybuild.builder.workers.job_worker import main; main({theirs.fileno()}, {pidfd})"
    with ours, theirs:
        done = subprocess.run(
            [sys.executable, "-c", code], pass_fds=(theirs.fileno(), pidfd), capture_output=True, text=True
        )
    os.close(pidfd)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
