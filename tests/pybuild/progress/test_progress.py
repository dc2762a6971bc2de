"""The displays plain, json and quiet of real builds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pybuild.progress import colour_for
from tests.support.cli import Pybuild, write_context
from tests.support.runs import outputs

BASE = "FROM pybuild.test/base\n"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}\n")


@pytest.fixture
def context(tmp_path: Path) -> Path:
    recipe = "FROM pybuild.test/base AS first\nENV a=b\nRUN echo one; printf half\nCOPY file /\n"
    return write_context(tmp_path / "context", recipe, file="x")


SUMMARY = [
    "built in N s: 2 run, 0 cached", "     N B  base image, 1 layer", "     N B  RUN echo one; printf half",
    "     N B  COPY file /", "     N B  the image",
]  # fmt: skip
LARGEST = ["largest of what this build added, before compression:", "     N B  /file  by COPY file /"]


def without_times(text: str) -> list[str]:
    """Lines with N in place of seconds and sizes."""
    lines = [re.sub(r"\b\d+\.\d s\b", "N s", line) for line in text.splitlines()]
    return [re.sub(r"^ +\d[\d.]* .?B  ", "     N B  ", line) for line in lines]


def test_plain_lines_for_each_event(pybuild: Pybuild, context: Path) -> None:
    done = pybuild("--progress=plain", "--network=none", context)
    assert DIGEST.fullmatch(done.out)
    assert without_times(done.err) == [
        "[first 1/2] RUN echo one; printf half",
        "[first 1/2] N s | one",
        "[first 1/2] N s | half",
        "[first 1/2] done in N s",
        "[first 2/2] COPY file /",
        "[first 2/2] done in N s",
        *SUMMARY,
        *LARGEST,
    ]


def test_plain_lines_for_cached_steps(tmp_path: Path, pybuild: Pybuild, context: Path) -> None:
    first = pybuild(context).out
    output = tmp_path / "app.tar"
    done = pybuild("-o", f"type=oci,dest={output}", context)
    assert done.out == first
    cached, copied, wrote, *summary = done.err.splitlines()
    assert cached == "[first 1/2] CACHED RUN echo one; printf half"
    assert copied == "[first 2/2] CACHED COPY file /"
    assert wrote.startswith(f"wrote {output} (")
    assert without_times("\n".join(summary)) == ["built in N s: 0 run, 2 cached", *SUMMARY[1:]]


def test_a_pipe_gets_plain_lines(pybuild: Pybuild, context: Path) -> None:
    assert without_times(pybuild("--network=none", context).err)[0] == "[first 1/2] RUN echo one; printf half"


def test_the_note_about_the_network_appears_once(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", BASE + "RUN true\nRUN :\n")
    without_pasta = pybuild.with_environment({"PATH": "/nonexistent"})
    assert without_pasta(context).err.count("use the network of this machine") == 1


@pytest.mark.parametrize("option", ["--progress=quiet", "-q", "--quiet"])
def test_quiet_shows_the_digest_only(pybuild: Pybuild, context: Path, option: str) -> None:
    done = pybuild(option, context)
    assert DIGEST.fullmatch(done.out) and done.err == ""


def test_json_is_an_object_a_line(pybuild: Pybuild, context: Path) -> None:
    done = pybuild("--progress=json", "--network=none", context)
    assert DIGEST.fullmatch(done.out)
    assert len(done.events) == len(done.err.splitlines())
    assert {event["version"] for event in done.events} == {1}
    kinds = [event["event"] for event in done.events if event["event"] != "step_output"]
    assert kinds == ["build_started", *["step_started", "step_finished"] * 2, "built", "build_finished"]
    last = done.events[-3]
    assert (last["stage"], last["number"], last["total"]) == ("first", 2, 2)
    assert (last["instruction"], last["cached"]) == ("COPY file /", False)
    assert float(str(last["seconds"])) >= 0


def test_json_contains_all_output_by_stream(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", BASE + "RUN echo out; echo err >&2; seq 20000\n")
    done = pybuild("--progress=json", context)
    streams: dict[object, str] = {}
    for event in done.events:
        if event["event"] == "step_output":
            streams[event["stream"]] = streams.get(event["stream"], "") + str(event["data"])
    assert streams == {1: "out\n" + "".join(f"{number}\n" for number in range(1, 20001)), 2: "err\n"}


def test_json_escapes_bytes_that_are_not_text(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", BASE + "RUN printf '\\377\\n'\n")
    assert list(outputs(pybuild("--progress=json", context)).values()) == ["\\xff\n"]


def test_json_events_are_the_only_lines_until_an_error(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", BASE + "RUN echo before; exit 3\n")
    lines = pybuild.refused("--progress=json", context).splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    assert [event["event"] for event in events][:2] == ["build_started", "step_started"]
    assert events[-1]["event"] == "build_failed"
    assert "error: RUN exited with status 3" in lines[len(events)]


def test_plain_output_is_complete_and_lines_stay_whole(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", BASE + "RUN seq 30000; (seq 30001 40000 >&2)\n")
    message = pybuild("--progress=plain", context).err
    numbers = re.findall(r"^\[stage-0 1/1\] \d+\.\d s \| (\d+)$", message, re.MULTILINE)
    assert sorted(map(int, numbers)) == list(range(1, 40001))


@pytest.mark.parametrize(
    ("asked", "terminal", "environ", "expected"),
    [
        ("auto", True, {"TERM": "xterm"}, True),
        ("auto", False, {"TERM": "xterm"}, False),
        ("auto", True, {"TERM": "dumb"}, False),
        ("auto", True, {}, False),
        ("auto", True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
        ("auto", True, {"TERM": "xterm", "NO_COLOR": ""}, True),
        ("always", False, {"NO_COLOR": "1"}, True),
        ("never", True, {"TERM": "xterm"}, False),
    ],
)
def test_colours(asked: str, terminal: bool, environ: dict[str, str], expected: bool) -> None:
    assert colour_for(asked, environ, terminal=terminal) is expected
