"""A call of the library leaves its caller's process as it was, however it ends."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import BASE, CHECKOUT, Pybuild, write_context

if TYPE_CHECKING:
    from pathlib import Path

# A process of its own: one with a terminal's signals, no threads, and nothing of pytest.
PROGRAM = f"""
import os, signal, sys
sys.path.insert(0, {str(CHECKOUT)!r})
import pybuild
from tests.support.process_state import differences, state

class Mine(Exception):
    pass

def on_event(event):
    if isinstance(event, pybuild.StepOutput) and b"raise" in event.data:
        raise Mine
    if isinstance(event, pybuild.StepOutput) and b"interrupt" in event.data:
        os.kill(os.getpid(), signal.SIGINT)

def call(action):
    try:
        action()
    except (Exception, KeyboardInterrupt) as error:
        return type(error).__name__
    return "no error"

mine = lambda *_: None
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell inherits it ignored
signal.signal(signal.SIGTERM, mine)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, mine)
os.umask(0o027)
"""


def run(pybuild: Pybuild, tmp_path: Path, program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + textwrap.dedent(program)],
        cwd=tmp_path,
        env=pybuild.env(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


ENDS = {
    "success": ("RUN echo 1 > /f\nCOPY big /", "no error"),
    "a cached build": ("ENV a=b", "no error"),
    "a failing step": ("RUN exit 3", "StepFailed"),
    "a mistake": ("RUM echo", "ParseError"),
    "a missing base": ("COPY --from=localhost:1/none / /", "PlanError"),
    "an error of the caller": ("RUN echo raise; sleep 1000", "Mine"),
    "Ctrl-C": ("RUN echo interrupt; sleep 1000", "KeyboardInterrupt"),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_build_leaves_its_process_as_it_was(tmp_path: Path, pybuild: Pybuild, end: str) -> None:
    recipe, error = ENDS[end]
    context = write_context(tmp_path / "c", f"FROM {BASE}\n{recipe}\n", big=bytes(3 << 20))
    said = run(
        pybuild,
        tmp_path,
        f"""
        before = state()
        print(call(lambda: pybuild.build({str(context)!r}, tags=["t"], on_event=on_event,
                                          outputs=[pybuild.TarOutput("rootfs.tar"), pybuild.ImageOutput(pybuild.Format.OCI, "o.tar")])))
        print(differences(before, state()))
        """,
    )
    assert said.splitlines() == [error, "{}"]
    pybuild.assert_whole()


CALLERS = {
    "blocks all signals": "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
    "ignores its children": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "has no input": "os.close(0)",
    "has no output": "os.close(1)",
    "has no standard error": "os.close(2)",
    "has no streams": "os.closerange(0, 3)",
}


@pytest.mark.parametrize("caller", CALLERS)
def test_a_build_works_whatever_its_caller_has_done_to_its_process(tmp_path: Path, pybuild: Pybuild, caller: str) -> None:
    """Workers are new programs, and those inherit ignored and blocked signals, and the lack of standard streams."""
    recipe = f"FROM {BASE}\nCOPY big /\nRUN mkdir /d && cp /big /d\nRUN ls /d && echo interrupt; sleep 1000\n"
    context = write_context(tmp_path / "c", recipe, big=bytes(3 << 20))
    run(
        pybuild,
        tmp_path,
        f"""
        {CALLERS[caller]}
        before = state()
        stop = lambda event: 1 / 0 if isinstance(event, pybuild.StepOutput) and b"interrupt" in event.data else None
        found = call(lambda: pybuild.build({str(context)!r}, on_event=stop)), differences(before, state())
        open("found", "w").write(repr(found))
        """,
    )
    # SQLite opens /dev/null in place of closed streams, so that a message never ends up in a database.
    found = (tmp_path / "found").read_text().replace("'1': ('/dev/null', True, True)", "").replace("'2': ('/dev/null', True, True)", "")
    assert found in ("('ZeroDivisionError', {})", "('ZeroDivisionError', {'descriptors': ({}, {, })})")
    pybuild.assert_whole()


def test_a_build_in_another_thread(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN echo 1 > /f\n")
    said = run(
        pybuild,
        tmp_path,
        f"""
        import threading
        threading.Thread(target=bool).start()  # the C library takes a signal for itself with the first thread
        while len(os.listdir("/proc/self/task")) > 1:
            os.sched_yield()
        before = state()
        found = []
        thread = threading.Thread(target=lambda: found.append(call(lambda: pybuild.build({str(context)!r}, tags=["t"]))))
        thread.start()
        thread.join()
        while len(os.listdir("/proc/self/task")) > 1:
            os.sched_yield()
        print(found, differences(before, state()))
        """,
    )
    assert said == "['no error'] {}\n"
    pybuild.assert_whole()


def test_a_process_without_free_descriptors_gets_an_error_and_can_build_later(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nCOPY big /\nRUN echo 1 > /f\n", big=b"x")
    said = run(
        pybuild,
        tmp_path,
        f"""
        import resource
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        build = lambda: pybuild.build({str(context)!r}, options=pybuild.BuildOptions(no_cache=True))
        build()
        before = state()
        errors = []
        first = len(os.listdir("/proc/self/fd"))
        for more in range(60):
            resource.setrlimit(resource.RLIMIT_NOFILE, (first + more, limits[1]))
            errors.append(call(build))
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert differences(before, state()) == {{}}, (more, differences(before, state()))
            if errors[-1] == "no error":
                break
        print(*errors)
        """,
    )
    *errors, last = said.split()
    assert (errors.pop(), last) == ("no", "error")
    assert set(errors) <= {"StoreError", "OSError", "BuildError", "SandboxError", "PrivilegeError"} and len(errors) > 5, errors
    pybuild.assert_whole()
