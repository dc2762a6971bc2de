"""Recording: what is asked of buildctl, and how its results are written down. A script stands in for buildctl."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from fixtures import make_base
from tests.conformance import record
from tests.conformance.recorded import CASES, Base

FAILED = """\
#5 ERROR: cannot copy to non-directory: /x
------
 > [2/2] COPY f1 /x/:
------
Dockerfile:3
--------------------
   1 |     FROM pybuild.test/base
   2 |     COPY dir /x
   3 | >>> COPY f1 /x/
--------------------
error: failed to solve: cannot copy to non-directory: /x
"""


@pytest.fixture
def buildctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `buildctl` first on PATH: it notes its arguments, and does what the file `does` says, with the output in $out."""
    tools = tmp_path / "tools"
    tools.mkdir()
    script = tools / "buildctl"
    script.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >{tools}/arguments\nfor last; do :; done\nout=${{last##*dest=}}\n. {tools}/does\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    return tools


@pytest.fixture
def case(tmp_path: Path) -> Path:
    made = tmp_path / "cases" / "one"
    made.mkdir(parents=True)
    (made / "Dockerfile").write_text("FROM pybuild.test/base\nCOPY f /f\n")
    (made / "context.json").write_text('{"f": {"text": "f\\n", "mode": "0o600"}}')
    (made / "options.json").write_text('{"args": {"X": "a b"}, "target": "t"}')
    return made


@pytest.mark.parametrize("path", sorted(CASES.glob("*/expected.json")), ids=lambda path: path.parent.name)
def test_the_recorded_files_are_in_the_form_that_is_written(path: Path) -> None:
    assert record.render(json.loads(path.read_text())) == path.read_text()


def test_a_failure_has_the_line_and_the_message() -> None:
    said = "error: failed to solve: cannot copy to non-directory: /x"
    assert record.failed_form(FAILED, ["x"]) == {
        "builds": False,
        "error": {"contains": ["x"], "line": 3},
        "oracle_said": said,
    }
    assert "line" not in record.failed_form("error: failed to solve: no such stage")["error"]


def test_a_failure_without_a_message_is_not_recorded() -> None:
    with pytest.raises(ValueError, match="no line of buildctl's output"):
        record.failed_form("panic: x\n")


def test_a_case_that_builds_is_written(case: Path, buildctl: Path, tmp_path: Path) -> None:
    """The stand-in answers with the base image itself."""
    busybox = make_base.static_busybox()
    assert busybox is not None
    Base(Path(busybox)).write(tmp_path / "image.tar", "x:y")
    (buildctl / "does").write_text(f'ls "${{out%/*}}/context" >{buildctl}/context\ncp {tmp_path}/image.tar "$out"\n')
    assert record.main(["--cases", str(case.parent), "--addr", "tcp://127.0.0.1:1", "one"]) == 0
    assert json.loads((case / "expected.json").read_text()) == {
        "author": None,
        "builds": True,
        "config": {"Cmd": ["sh"], "Env": [f"PATH={make_base.PATH}"], "WorkingDir": "/"},
        "files": {},
        "history": [],
        "layers": [],
    }
    assert (buildctl / "context").read_text() == "f\n"
    arguments = (buildctl / "arguments").read_text().splitlines()
    assert arguments[:2] == ["--addr=tcp://127.0.0.1:1", "build"]
    assert {"--opt=build-arg:X=a b", "--opt=target=t", "--frontend=dockerfile.v0"} <= set(arguments)
    (base,) = (text for text in arguments if text.startswith("--opt=context:"))
    assert base.startswith("--opt=context:pybuild.test/base=oci-layout://base@sha256:")


def test_the_words_that_were_added_by_hand_are_kept(case: Path, buildctl: Path) -> None:
    (case / "expected.json").write_text('{"builds": false, "error": {"contains": ["x"]}}')
    (buildctl / "does").write_text(f"echo {shlex.quote(FAILED)} >&2; exit 1\n")
    assert record.main(["--cases", str(case.parent), "one"]) == 0
    assert json.loads((case / "expected.json").read_text())["error"] == {"contains": ["x"], "line": 3}


def test_without_buildctl_nothing_is_recorded(
    case: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SystemExit) as ended:
        record.main(["--cases", str(case.parent), "one"])
    assert ended.value.code == 2
    assert "buildctl is not on PATH" in capsys.readouterr().err


def test_help_needs_no_buildctl(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        record.main(["--help"])
    assert ended.value.code == 0
    assert "expected.json" in capsys.readouterr().out
