"""The Python interface: its documented examples run, and importing it costs nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pybuild as api
from tests.support.cli import BASE, CHECKOUT, Pybuild, write_context

BLOCKS = re.findall(r"^```python\n(.*?)^```$", (CHECKOUT / "docs" / "api.md").read_text(), re.DOTALL | re.MULTILINE)


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


def test_an_image_says_what_the_command_says(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN echo 1 > /f\nENV A=b\n")
    digest = pybuild("-t", "app", context).out.strip()
    image = api.build(context, root=pybuild.root)
    assert str(image.digest) == digest and api.open_image("app", pybuild.root) == image
    assert [line.layer for line in image.history if line.layer] == list(image.layers)
    assert image.history[-1].layer is None and "A=b" in image.config.config.env


def test_what_the_observer_raises_ends_the_build(tmp_path: Path, pybuild: Pybuild) -> None:
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


def test_every_public_name_is_there_and_none_is_imported_before_it_is_used() -> None:
    assert set(api.__all__) == set(api._NAMES)
    assert all(getattr(api, name) is not None for name in api.__all__)
    code = "import sys; before = set(sys.modules); import pybuild; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['pybuild']\n"
