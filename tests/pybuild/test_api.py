"""The Python interface: its documented examples run, and importing pybuild imports no other modules."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import pybuild as api
from pybuild.builder.output.export import Output
from tests.support.cli import BASE, CHECKOUT, Pybuild, write_context
from tests.support.elsewhere import quick

BLOCKS = re.findall(r"^```python\n(.*?)^```$", (CHECKOUT / "docs" / "user" / "api.md").read_text(), re.DOTALL | re.MULTILINE)


def test_the_examples_of_the_document_run(tmp_path: Path, pybuild: Pybuild) -> None:
    write_context(tmp_path / "here" / "hello", f"FROM {BASE}\nARG NAME=world\nRUN echo $NAME > /page\n")
    write_context(tmp_path / "here" / "broken", f"FROM {BASE}\nRUN exit 3\n")
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(BLOCKS)], cwd=tmp_path / "here", env=pybuild.env(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch("sha256:[0-9a-f]{64}", lines[0]) and lines[-1] == "3 2"
    assert "RUN echo $NAME > /page made" in lines
    assert (tmp_path / "here" / "hello.tar").is_file()
    pybuild.assert_whole()


def test_an_image_has_the_properties_that_the_command_shows(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN echo 1 > /f\nENV A=b\n")
    digest = pybuild("-t", "app", context).out.strip()
    image = api.build(context, root=pybuild.root)
    assert str(image.digest) == digest and api.open_image("app", pybuild.root) == image
    assert [line.layer for line in image.history if line.layer] == list(image.layers)
    assert image.history[-1].layer is None and "A=b" in image.config.config.env


def test_a_check_lists_warnings_and_runs_nothing(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN exit 1\nCMD echo $A\n")
    (found,) = api.check(context, root=pybuild.root)
    assert (found.rule, found.span.line) == ("JSONArgsRecommended", 3)
    message = pybuild.run("build", "--check", context)
    assert message.status == 1 and "JSONArgsRecommended" in message.out


def test_a_check_raises_the_first_mistake_after_all_warnings(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", "FROM nowhere.test/x\nSTOPSIGNAL SIGNO\nMAINTAINER a\nVOLUME it's\n")
    events: list[api.Event] = []
    with pytest.raises(api.PybuildError, match="STOPSIGNAL SIGNO") as caught:
        api.check(context, root=pybuild.root, on_event=events.append)
    assert caught.value.span is not None and caught.value.span.line == 2
    assert [type(event).__name__ for event in events] == ["Note", "CheckWarning"]


def test_a_store_is_kept_within_its_limit(
    tmp_path: Path, pybuild: Pybuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The argument wins over the environment; images without a name are removed first."""
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN head -c 300000 /dev/urandom > /big\n")
    notes: list[str] = []

    def observe(event: api.Event) -> None:
        if isinstance(event, api.Note) and "freed to keep the store within" in event.text:
            notes.append(event.text)

    monkeypatch.setenv("PYBUILD_KEEP_STORAGE", "1k")
    image = api.build(context, root=pybuild.root, keep_storage=1 << 40, on_event=observe)
    assert notes == [] and api.open_image(str(image.digest), pybuild.root) == image
    api.build(context, root=pybuild.root, on_event=observe)
    assert len(notes) == 1 and notes[0].endswith(" freed to keep the store within 1.0 kB")
    monkeypatch.setenv("PYBUILD_KEEP_STORAGE", "much")
    with pytest.raises(ValueError, match="invalid size 'much'"):
        api.build(context, root=pybuild.root)
    pybuild.assert_whole()


def test_the_changes_of_an_image_are_those_that_the_command_shows(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN mkdir /d && echo 1 > /d/f\nRUN rm /d/f\n")
    image = api.build(context, tags=["app"], root=pybuild.root)
    _, *layers = image.changes()
    assert [[(one.change, one.path) for one in layer] for layer in layers] == [
        [(api.Change.ADDED, b"d"), (api.Change.ADDED, b"d/f")], [(api.Change.DELETED, b"d/f")],
    ]  # fmt: skip
    printed = pybuild("history", "--files", "app").out.splitlines()
    assert [line for line in printed if line[11:].split()[1:2] in (["/d"], ["/d/f"])] == [
        "           A /d", "      2 B  A /d/f", "           D /d/f  (hides 2 B of lower layers)",
    ]  # fmt: skip


def test_an_exception_of_the_observer_ends_the_build(tmp_path: Path, pybuild: Pybuild) -> None:
    class Enough(Exception):
        pass

    def observe(event: api.Event) -> None:
        if isinstance(event, api.StepOutput):
            raise Enough

    try:
        api.build(write_context(tmp_path / "c", f"FROM {BASE}\nRUN echo 1; cat\n"), root=pybuild.root, on_event=observe)
    except Enough:
        pybuild.assert_whole()
        return
    raise AssertionError("the build went on")


def test_a_server_that_does_not_answer_is_a_remote_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in quick(tmp_path).items():
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # of a server that is closed when the build asks it
    context = write_context(tmp_path / "c", f"FROM scratch\nADD http://127.0.0.1:{port}/f /f\n")
    with pytest.raises(api.RemoteError) as raised:
        api.build(context, root=tmp_path / "store")
    assert isinstance(raised.value, api.PybuildError) and not isinstance(raised.value, api.StoreError)
    assert raised.value.span is not None and raised.value.span.line == 2


def test_every_public_name_exists_and_is_imported_on_first_use() -> None:
    assert set(api.__all__) == set(api._NAMES)
    assert all(getattr(api, name) is not None for name in api.__all__)
    code = "import sys; before = set(sys.modules); import pybuild; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['pybuild', 'pybuild.version']\n"


def test_every_output_type_is_public() -> None:
    missing = {kind.__name__ for kind in get_args(Output)} - set(api.__all__)
    assert not missing, f"{', '.join(sorted(missing))}: export it in pybuild/__init__.py"
