"""The live view on a terminal, with steps that wait until the test lets them continue."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pybuild.progress.terminal_text import clip
from tests.support.cli import BASE, Pybuild, write_context
from tests.support.processes import descendants
from tests.support.terminals import Terminal, on_terminal

# A step continues when the test writes to its FIFO.
RECIPE = f"""\
FROM {BASE} AS build
RUN : gate-1; mkfifo /gate; printf '1\\n2\\n3\\n4\\n5\\n6 of 6\\n'; cat /gate; rm /gate
COPY file /file
RUN : gate-2; mkfifo /gate; printf '\\033[2J\\033[1;1H\\033[?25l\\033]0;title\\007\\033[31mred\\377\\n10%%\\r20%%'; cat /gate; rm /gate
"""
FIRST, COPY, SECOND = RECIPE.splitlines()[1:]
LARGEST = "largest of what this build added, before compression:"
STARTED = ["[build 1/3] N s  " + FIRST, "    | 3", "    | 4", "    | 5", "    | 6 of 6", "N s: 0 of 3 steps, 0 cached, 1 running"]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write_context(tmp_path / "context", RECIPE, file="content")


def let_go(terminal: Terminal, name: str) -> None:
    """Let the step with this word in its command continue."""
    step = next(process for process in descendants(terminal.process.pid) if f": {name};" in process.command)
    with open(f"/proc/{step.pid}/root/gate", "wb"):
        pass


def cut(line: str, columns: int) -> str:
    """A line of a step as shown, with a time below ten seconds replaced by N s."""
    return clip(line, columns - len("    0.0 s") + len(" N s"))


def test_the_screen_at_three_moments(pybuild: Pybuild, context: Path) -> None:
    with on_terminal(pybuild, "--network=none", context, columns=100, rows=20) as terminal:
        lines = terminal.wait_until(lambda lines: "    | 6 of 6" in lines and "running" in lines[-1])
        first = cut(STARTED[0], 100)
        assert lines == [first, *STARTED[1:5], "N s: 0 of 3 steps, 0 cached, 1 running"]

        let_go(terminal, "gate-1")
        lines = terminal.wait_until(lambda lines: "    | 20%" in lines and "running" in lines[-1])
        second = cut(f"[build 3/3] N s  {SECOND}", 100)
        assert lines == [
            first, f"[build 2/3] N s  {COPY}", second, "    | red�", "    | 20%", "N s: 2 of 3 steps, 0 cached, 1 running",
        ]  # fmt: skip
        assert (terminal.screen.title, terminal.screen.cursor.hidden) == ("", False)
        red = next(row for row, line in enumerate(terminal.screen.display) if line.startswith("    | red"))
        assert [terminal.screen.buffer[red][column].fg for column in (6, 9)] == ["red", "red"]

        let_go(terminal, "gate-2")
        lines = terminal.end()
        digest = lines.pop()
        assert [re.sub(r"^ *[\d.]+ k?M?B  ", "      N B  ", line) for line in lines] == [
            first, f"[build 2/3] N s  {COPY}", second, "built in N s: 3 run, 0 cached",
            *(clip(f"      N B  {line}", 100) for line in ("base image, 1 layer", FIRST, COPY, SECOND, "the image")),
            LARGEST, f"      N B  /file  by {COPY}",
        ]  # fmt: skip
        assert re.fullmatch("sha256:[0-9a-f]{64}", digest)
        assert terminal.is_sane()
        assert terminal.process.returncode == 0


SIDE_BY_SIDE = f"""\
FROM {BASE} AS left
RUN : gate-left; mkfifo /gate; seq 6; cat /gate; rm /gate
FROM {BASE} AS right
RUN : gate-right; mkfifo /gate; printf 'a\\nb\\n50%%\\r75%%'; cat /gate; rm /gate
FROM {BASE}
COPY --from=left /etc/passwd /left
COPY --from=right /etc/passwd /right
"""


def test_the_screen_of_parallel_steps_at_three_moments(pybuild: Pybuild, tmp_path: Path) -> None:
    """Running steps have their last lines below them; finished steps are one line each, above."""
    _, left, _, right, _, one, two = SIDE_BY_SIDE.splitlines()
    context = write_context(tmp_path / "context", SIDE_BY_SIDE)
    left_line, right_line = (cut(f"[{name} 1/1] N s  {line}", 100) for name, line in (("left", left), ("right", right)))
    left_runs = [left_line, "    | 3", "    | 4", "    | 5", "    | 6"]
    right_runs = [right_line, "    | a", "    | b", "    | 75%"]
    with on_terminal(pybuild, "--network=none", context, columns=100, rows=20) as terminal:
        lines = terminal.wait_until(lambda lines: {"    | 6", "    | 75%"} <= set(lines) and "running" in lines[-1])
        assert lines in (
            [*left_runs, *right_runs, "N s: 0 of 4 steps, 0 cached, 2 running"],
            [*right_runs, *left_runs, "N s: 0 of 4 steps, 0 cached, 2 running"],
        )

        let_go(terminal, "gate-left")
        lines = terminal.wait_until(lambda lines: lines[-1] == "N s: 2 of 4 steps, 0 cached, 1 running")
        copied = f"[stage-2 1/2] N s  {one}"
        assert lines == [left_line, copied, *right_runs, "N s: 2 of 4 steps, 0 cached, 1 running"]

        let_go(terminal, "gate-right")
        *lines, digest = terminal.end()
        assert [re.sub(r"^ *[\d.]+ k?M?B  ", "      N B  ", line) for line in lines] == [
            left_line, copied, right_line, f"[stage-2 2/2] N s  {two}", "built in N s: 4 run, 0 cached",
            *(f"      N B  {line}" for line in ("base image, 1 layer", one, two, "the image")),
            LARGEST, f"      N B  /left  by {one}", f"      N B  /right  by {two}",
        ]  # fmt: skip
        assert digest.startswith("sha256:") and terminal.process.returncode == 0


def test_a_failure_shows_the_whole_output_of_the_step(tmp_path: Path, pybuild: Pybuild) -> None:
    recipe = f"FROM {BASE}\nRUN seq 30; printf '\\033[2J\\033[?25lend'; exit 3\n"
    context = write_context(tmp_path / "context", recipe)
    with on_terminal(pybuild, "--network=none", context, rows=50, NO_COLOR="1") as terminal:
        lines = terminal.end()
        assert terminal.process.returncode == 1
    assert lines[0] == "[stage-0 1/1]   FAILED  RUN seq 30; printf '\\033[2J\\033[?25lend'; exit 3"
    assert lines[1:32] == [*map(str, range(1, 31)), "end"]
    assert lines[32] == f"{context}/Buildfile:2:1: error: RUN exited with status 3"[:80]
    assert "m" not in re.findall(rb"\x1b\[[0-9;]*([a-zA-Z])", terminal.raw.replace(b"\x1b[m", b""))
    assert terminal.is_sane()


def test_ctrl_c_leaves_a_sane_terminal(pybuild: Pybuild, context: Path) -> None:
    with on_terminal(pybuild, "--network=none", context) as terminal:
        terminal.wait_until(lambda lines: "    | 6 of 6" in lines)
        terminal.press(b"\x03")
        lines = terminal.end()
        assert terminal.process.returncode == 130
        assert terminal.is_sane()
    assert [line.partition("]")[0] for line in lines] == ["[build 1/3", "error: interrupted"]
    assert "stopped" in lines[0]
    pybuild.assert_whole()


def test_kill_9_leaves_a_sane_terminal(pybuild: Pybuild, context: Path) -> None:
    with on_terminal(pybuild, "--network=none", context) as terminal:
        terminal.wait_until(lambda lines: "    | 6 of 6" in lines)
        terminal.process.kill()
        terminal.end()
        assert terminal.is_sane()


def test_a_resized_terminal(pybuild: Pybuild, context: Path) -> None:
    with on_terminal(pybuild, "--network=none", context, columns=120, rows=30) as terminal:
        terminal.wait_until(lambda lines: "    | 6 of 6" in lines)
        terminal.resize(40, 5)
        wanted = [cut(STARTED[0], 40), "    | 5", "    | 6 of 6", STARTED[-1]]
        terminal.wait_until(lambda lines: lines[-4:] == wanted)
        let_go(terminal, "gate-1")
        terminal.wait_until(lambda lines: "    | 20%" in lines)
        let_go(terminal, "gate-2")
        assert re.search("sha256:[0-9a-f]+", "".join(terminal.end()))
        assert terminal.process.returncode == 0


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", f"FROM {BASE}\nRUN printf '\\033[2Jx\\n'\n")
    with on_terminal(pybuild, "--network=none", context, TERM="dumb") as terminal:
        lines = terminal.end()
    assert lines[0] == "[stage-0 1/1] RUN printf '\\033[2Jx\\n'"
    assert lines[1] == "[stage-0 1/1] N s | x"
    assert b"\x1b" not in terminal.raw


def test_a_pull_shows_progress(tmp_path: Path, pybuild: Pybuild) -> None:
    """There is no registry: the view disappears and only the error stays."""
    with on_terminal(pybuild, "pull", "127.0.0.1:1/nosuch:1", HOME=str(tmp_path)) as terminal:
        lines = terminal.end()
        assert terminal.process.returncode == 1
        assert terminal.is_sane()
    assert lines[0].startswith("error: ")
    assert os.listdir(pybuild.root / "ingest") == []


@pytest.mark.parametrize(("flag", "variables", "coloured"), [("auto", {}, True), ("auto", {"NO_COLOR": "1"}, False), ("never", {}, False), ("always", {"NO_COLOR": "1"}, True)])
def test_colours_on_a_terminal(pybuild: Pybuild, tmp_path: Path, flag: str, variables: dict[str, str], coloured: bool) -> None:
    context = write_context(tmp_path / "context", f"FROM {BASE}\nCOPY . /x\n")
    with on_terminal(pybuild.with_environment(variables), f"--color={flag}", context) as terminal:
        terminal.end()
        assert terminal.process.returncode == 0
    assert (b"\x1b[1m" in terminal.raw) is coloured
