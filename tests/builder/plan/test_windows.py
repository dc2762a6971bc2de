"""Recipes for Windows: paths as BuildKit reads them, and where the layers have the files."""

from __future__ import annotations

import pytest

from pybuild.builder.errors import PlanError
from pybuild.builder.plan.graph import CopyStep, WorkdirStep
from pybuild.builder.plan.windows import in_layer, is_windows_path, slashed
from pybuild.store.formats.platform import Platform
from tests.support.recipes import config, history, planned, refusal, steps

WINDOWS = Platform("windows", "amd64")
HEAD = "# escape=`\nFROM scratch\n"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("C:\\app", "/app"), ("c:/app", "/app"), ("\\app\\x", "/app/x"), ("app\\x", "app/x"), ("C:app", "app"), ("", ""),
        ("C:\\", "/"), ("/app", "/app"),
    ],
)  # fmt: skip
def test_paths_lose_their_drive(path: str, expected: str) -> None:
    assert slashed(path) == expected


@pytest.mark.parametrize("path", ["D:\\app", "C:", "\\\\server\\share", "//./C$/a"])
def test_paths_elsewhere_are_refused(path: str) -> None:
    with pytest.raises(PlanError):
        slashed(path)


@pytest.mark.parametrize(
    ("path", "expected"), [("C:\\a", True), ("\\a", True), ("/a", True), ("a", False), ("C:a", False)]
)
def test_a_path_from_the_root(path: str, expected: bool) -> None:
    assert is_windows_path(path) is expected


def test_files_are_in_a_directory_of_the_layer() -> None:
    assert in_layer("/app/x") == "/Files/app/x"


def test_workdir_and_copy_read_windows_paths() -> None:
    text = HEAD + "WORKDIR C:\\app\nWORKDIR sub\nCOPY a b\\c.txt\nCOPY a\\b C:\\tools\\\n"
    found = steps(text, platform=WINDOWS)
    assert [step.path for step in found if isinstance(step, WorkdirStep)] == ["/Files/app", "/Files/app/sub"]
    copies = [step for step in found if isinstance(step, CopyStep)]
    assert [step.dest for step in copies] == ["/Files/app/sub/b/c.txt", "/Files/tools/"]
    assert copies[1].sources == ("a/b",)
    assert config(text, platform=WINDOWS).working_dir == "\\app\\sub"
    assert history(text, platform=WINDOWS)[:2] == ["WORKDIR /app", "WORKDIR /app/sub"]


def test_what_is_copied_from_windows_comes_from_its_files() -> None:
    text = (
        "FROM --platform=windows/amd64 scratch AS win\nCOPY a /out/\nFROM scratch\nCOPY --from=win /out/a /\n"
        "COPY --from=win --parents /out/./a /p/\n"
    )
    plan = planned(text)
    copies = [node.step for node in plan.nodes if isinstance(node.step, CopyStep)]
    assert [(step.sources, step.dest) for step in copies] == [
        (("a",), "/Files/out/"), (("/Files/out/a",), "/"), (("/Files/./out/./a",), "/p/"),
    ]  # fmt: skip


def test_commands_run_in_cmd_and_no_path_is_set() -> None:
    made = config(HEAD + "CMD app.exe\n", platform=WINDOWS)
    assert (made.cmd, made.env) == (("cmd", "/S", "/C", "app.exe"), ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("COPY a D:\\x\n", "3:8 D:/x: not on the drive C:"),
        ("COPY D:\\a C:\\x\n", "3:6 D:/a: not on the drive C:"),
        ("WORKDIR \\\\server\\x\n", "3:9 //server/x: the path of another machine or device"),
    ],
)
def test_other_drives_are_mistakes_at_their_place(text: str, message: str) -> None:
    assert refusal(HEAD + text, platform=WINDOWS) == message
