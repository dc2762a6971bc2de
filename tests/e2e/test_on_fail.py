"""--on-fail: a shell in the filesystem of a failed step, and files copied from it; as root and as ordinary users."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest

from tests.support.cli import BASE, Pybuild, write_context
from tests.support.people import Person
from tests.support.processes import descendants, descendants_with, mounts_below, survivors
from tests.support.terminals import Terminal, on_terminal

SHELL = "opening a shell there; the build ends with it"
STEP = "RUN --mount=type=secret,id=s --mount=type=cache,target=/cache id -u > /left; echo wrote; export X=1; exit 7"
RECIPE = f"FROM {BASE}\nRUN mkdir /work /deep; echo below > /deep/below\nENV A=b\nWORKDIR /work\n{STEP}\n"


def is_prompt(lines: list[str]) -> bool:
    return lines[-1].rstrip().endswith(("#", "$"))


def ask(terminal: Terminal, command: str) -> list[str]:
    """Type a command; return its output when the next prompt appears."""
    terminal.screen.reset()
    terminal.press(command.encode() + b"\n")
    return terminal.wait_until(lambda lines: len(lines) > 1 and is_prompt(lines))[1:-1]


def start(terminal: Terminal, command: str) -> None:
    """Start a program that reads the terminal, and wait until it does: before that, the shell reads the input."""
    terminal.press(f"sh -c 'echo r''eady; exec {command}'\n".encode())
    terminal.wait_until(lambda lines: lines[-1] == "ready")


def test_a_shell_opens_in_the_file_system_of_the_step(person: Person) -> None:
    context = person.context("c", RECIPE, secret="hush")
    pybuild = person.pybuild()
    arguments = ("--on-fail=shell", "--exit-code=run", f"--secret=id=s,src={context}/secret", "--network=none", context)
    with on_terminal(pybuild, *arguments, columns=130) as terminal:
        modes = terminal.modes()
        lines = terminal.wait_until(is_prompt)
        at = lines.index(f"RUN exited with status 7: {SHELL}")
        assert "FAILED  RUN --mount" in lines[at - 2]
        assert lines[at - 1] == "wrote"
        assert terminal.modes() != modes
        assert ask(terminal, "cat /left; pwd; echo $A $TERM $X") == ["0", "/work", "b xterm"]
        assert ask(terminal, "cat /run/secrets/s; cat /deep/below; test -w /cache && echo cache") == [
            "hushbelow",
            "cache",
        ]
        assert ask(terminal, "tty; stty size; test -t 1 && test -t 2 && echo all") == ["/dev/pts/0", "24 130", "all"]
        ask(terminal, "echo more > /left; (sleep 1000 &)")
        started = descendants_with(terminal.process.pid, "sleep 1000")
        terminal.press(b"exit 3\n")
        lines = terminal.end()
        assert terminal.process.returncode == 7
        assert terminal.modes() == modes
        assert terminal.is_sane()
        assert survivors(started) == []
    assert f"{context}/Buildfile:5:1: error: RUN exited with status 7" in lines
    assert "wrote" not in lines  # once is enough
    assert mounts_below(pybuild.root) == []
    pybuild.assert_whole()
    assert pybuild.run(f"--secret=id=s,src={context}/secret", context).status == 1  # and the cache contains nothing of it


def test_a_shell_has_the_user_and_directory_of_the_step(tmp_path: Path, pybuild: Pybuild) -> None:
    recipe = f"FROM {BASE}\nRUN echo me:x:1234:5:::/bin/sh >> /etc/passwd\nUSER me\nWORKDIR /home/me\nENV HOME=/home/me\nRUN touch mine; exit 1\n"
    with on_terminal(pybuild, "--on-fail=shell", write_context(tmp_path / "c", recipe)) as terminal:
        terminal.wait_until(is_prompt)
        assert ask(terminal, "id -u; stat -c %u mine; echo $HOME; echo > $(tty)") == ["1234", "1234", "/home/me", ""]
        terminal.press(b"\x04")
        terminal.end()
        assert terminal.process.returncode == 1


def test_keys_and_sizes_reach_the_shell(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN exit 1\n")
    with on_terminal(pybuild, "--on-fail=shell", context) as terminal:
        terminal.wait_until(is_prompt)
        start(terminal, "cat")
        terminal.press(b"typed\n")
        terminal.wait_until(lambda lines: lines[-2:] == ["typed", "typed"])
        terminal.resize(100, 50)
        terminal.press(b"\x03")  # ends cat, but neither the shell nor the build
        terminal.wait_until(is_prompt)
        assert ask(terminal, "stty size") == ["50 100"]
        terminal.press(b"exit\n")
        terminal.end()
        assert terminal.process.returncode == 1


def test_large_amounts_pass_in_both_directions(tmp_path: Path, pybuild: Pybuild) -> None:
    """More than the buffer of a terminal, while the shell does not read."""
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN exit 1\n")
    with on_terminal(pybuild, "--on-fail=shell", context) as terminal:
        terminal.wait_until(is_prompt)
        assert len(ask(terminal, "seq 20000")) == 22  # the screen without the prompt and the command
        start(terminal, "wc -c")
        for _ in range(64):
            terminal.press(b"x" * 62 + b"\n")
        terminal.press(b"\x04")
        assert str(64 * 63) in terminal.wait_until(is_prompt)
        terminal.press(b"exit\n")
        terminal.end()


def test_parallel_steps_end_before_the_shell_opens(tmp_path: Path, pybuild: Pybuild) -> None:
    mount = "RUN --mount=type=cache,target=/c test -p /c/gate || mkfifo /c/gate;"  # the second step finds it
    recipe = (
        f"FROM {BASE} AS other\n{mount} echo > /c/gate; sleep 1000\n"
        f"FROM {BASE}\n{mount} cat /c/gate; exit 1\nCOPY --from=other /x /\n"
    )
    with on_terminal(pybuild, "--on-fail=shell", write_context(tmp_path / "c", recipe)) as terminal:
        terminal.wait_until(is_prompt)
        assert not [one for one in descendants(terminal.process.pid) if "sleep 1000" in one.command]
        terminal.press(b"exit\n")
        lines = terminal.end()
    assert any("stopped" in line for line in lines)
    pybuild.assert_whole()


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)], ids=str
)
def test_a_signal_ends_the_shell_and_restores_the_terminal(
    tmp_path: Path, pybuild: Pybuild, number: signal.Signals, status: int
) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN exit 1\n")
    with on_terminal(pybuild, "--on-fail=shell", context) as terminal:
        modes = terminal.modes()
        terminal.wait_until(is_prompt)
        ask(terminal, "trap '' HUP TERM INT; (trap '' HUP TERM; sleep 1000 &)")
        started = descendants_with(terminal.process.pid, "sleep 1000")
        os.kill(terminal.process.pid, number)
        terminal.end()
        assert terminal.process.returncode == status
        assert terminal.modes() == modes
        assert survivors(started) == []
    pybuild.assert_whole()


def test_no_process_survives_kill_9(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN exit 1\n")
    with on_terminal(pybuild, "--on-fail=shell", context) as terminal:
        terminal.wait_until(is_prompt)
        ask(terminal, "trap '' HUP; (sleep 1000 &)")
        started = descendants_with(terminal.process.pid, "sleep 1000")
        terminal.process.kill()
        terminal.end()
        assert survivors(started) == []
    assert mounts_below(pybuild.root) == []
    pybuild("fsck")
    pybuild.assert_whole()


def test_a_base_without_a_shell_is_an_error(tmp_path: Path, pybuild: Pybuild) -> None:
    recipe = f'FROM {BASE} AS b\nFROM scratch\nCOPY --from=b /bin/busybox /false\nRUN ["/false"]\n'
    with on_terminal(pybuild, "--on-fail=shell", write_context(tmp_path / "c", recipe), columns=120) as terminal:
        modes = terminal.modes()
        lines = terminal.end()
        assert (terminal.process.returncode, terminal.modes()) == (1, modes)
    assert lines[-1] == "hint: no shell could be opened: /bin/sh: not found in the image"


def test_a_missing_program_is_a_failure_too(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", f'FROM {BASE}\nRUN ["/none"]\n')
    with on_terminal(pybuild, "--on-fail=shell", context) as terminal:
        lines = terminal.wait_until(is_prompt)
        assert f"/none: not found in the image: {SHELL}" in lines
        terminal.press(b"exit\n")
        terminal.end()
        assert terminal.process.returncode == 1


@pytest.mark.parametrize("progress", ["plain", "json", "quiet"])
def test_every_display_yields_to_the_shell(tmp_path: Path, pybuild: Pybuild, progress: str) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN printf 'with\\nno end'; exit 1\n")
    with on_terminal(pybuild, "--on-fail=shell", f"--progress={progress}", context, columns=400) as terminal:
        lines = terminal.wait_until(is_prompt)
        assert sum("no end" in line for line in lines if "instruction" not in line or "data" in line) >= 1
        terminal.press(b"exit\n")
        lines = terminal.end()
    assert f"{context}/Buildfile:2:1: error: RUN exited with status 1" in lines
    if progress == "json":
        assert sum('"event": "shell_opened"' in line for line in lines) == 1


def test_without_a_terminal_nothing_runs(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN echo ran; exit 1\n")
    message = pybuild.refused("--on-fail=shell", context, status=2)
    assert "--on-fail shell needs a terminal: standard input is not a terminal" in message and "ran" not in message


# -- export

TREE = (
    "mkdir -p /out/d && cd /out && echo log > d/log && echo setid > s && chmod 4755 s && ln -s /etc/passwd l && ln d/log d/hard"
    " && mkfifo f && chmod 700 d && ln -s /out /link && ln /out/s /elsewhere && echo gone > /below/b && rm /below/a"
)


def test_files_of_a_failed_step_are_copied(person: Person) -> None:
    recipe = f"FROM {BASE}\nRUN mkdir /below && echo a > /below/a && echo c > /below/c\nWORKDIR /out\nRUN {TREE}; chown 1:1 d 2>/dev/null; exit 9\n"
    context = person.context("c", recipe)
    pybuild = person.pybuild()
    out = {name: person.home / name for name in ("tree", "log", "link", "below", "sh")}
    os.chown(person.home, person.uid, -1)
    exports = ("/out:tree", "d/log:log", "/out/l:link", "/link/../below:below", "/bin/busybox:sh")
    done = pybuild.run(
        "--progress=plain",
        "--exit-code=run",
        *(f"--on-fail=export={one.replace(':', f':{person.home}/')}" for one in exports),
        context,
    )
    assert done.status == 9, done.err
    tree = out["tree"]
    assert sorted(str(path.relative_to(tree)) for path in tree.rglob("*")) == ["d", "d/hard", "d/log", "f", "l", "s"]
    assert (tree / "d/log").read_text() == out["log"].read_text() == "log\n"
    assert (tree / "d/log").samefile(tree / "d/hard")
    assert os.readlink(tree / "l") == "/etc/passwd"
    assert stat.S_IMODE((tree / "s").stat().st_mode) == 0o755
    assert stat.S_ISFIFO((tree / "f").lstat().st_mode)
    assert stat.S_IMODE((tree / "d").stat().st_mode) == 0o700
    assert {path.lstat().st_uid for path in (tree, *tree.rglob("*"), out["log"], out["sh"])} == {person.uid}
    assert {path.name: path.read_text() for path in out["below"].iterdir()} == {"b": "gone\n", "c": "c\n"}
    assert "root:" in out["link"].read_text()  # in the image: links are followed inside it
    assert out["sh"].stat().st_mode & 0o111
    assert "note: /out of the failed step copied to" in done.err and "5 files" in done.err
    pybuild.assert_whole()


def test_a_failed_export_is_only_a_note(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(
        tmp_path / "c", f"FROM {BASE}\nRUN mkdir /d && mknod /d/n c 1 3; echo x > /d/f; ln -s /l /l; exit 5\n"
    )
    exports = {"/none": "a", "/l": "b", "/d": "c2", "/d/f/x": "e"}
    options = [f"--on-fail=export={path}:{tmp_path / name}" for path, name in exports.items()]
    message = pybuild.refused(*options, "--progress=plain", "--exit-code=run", context, status=5)
    assert f"note: /none of the failed step could not be copied to {tmp_path}/a: there is no \"/none\"" in message
    assert "too many levels of symbolic links" in message
    assert f"/d of the failed step copied to {tmp_path}/c2: 1 file" in message
    assert sorted(os.listdir(tmp_path)) == ["c", "c2", "store"]


def test_an_export_never_replaces_anything(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN mkdir /d; echo new > /d/x; echo other > /x; exit 1\n")
    (tmp_path / "there").write_text("kept")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("there", "dangling"):
        message = pybuild.refused(f"--on-fail=export=/x:{tmp_path / name}", context, status=2)
        assert "already exists" in message
    options = (f"--on-fail=export=/d:{tmp_path}/d", f"--on-fail=export=/x:{tmp_path}/./d")
    assert "two exports to" in pybuild.refused(*options, context, status=2)
    assert "there is no directory" in pybuild.refused(f"--on-fail=export=/x:{tmp_path}/none/x", context, status=2)


@pytest.mark.parametrize("value", ["", "export", "export=", "export=/x", "export=:x", "export=/x:", "sh", "shell=1"])
def test_invalid_values_are_refused(tmp_path: Path, pybuild: Pybuild, value: str) -> None:
    context = write_context(tmp_path / "c", "FROM scratch\n")
    assert "expected shell or export=PATH:DEST" in pybuild.refused(f"--on-fail={value}", context, status=2)


def test_exports_come_before_the_shell(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN echo step > /f; exit 1\n")
    with on_terminal(pybuild, "--on-fail=shell", f"--on-fail=export=/f:{tmp_path}/f", context, columns=200) as terminal:
        terminal.wait_until(is_prompt)
        assert (tmp_path / "f").read_text() == "step\n"
        ask(terminal, "echo shell > /f")
        terminal.press(b"exit\n")
        terminal.end()
    assert (tmp_path / "f").read_text() == "step\n"


def test_a_successful_build_does_not_use_on_fail(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN echo x > /x\n")
    pybuild(f"--on-fail=export=/x:{tmp_path}/x", context)
    assert not (tmp_path / "x").exists()
