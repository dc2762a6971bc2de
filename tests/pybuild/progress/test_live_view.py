"""The live view: its lines and frames for given events, times and sizes."""

from __future__ import annotations

import random

import pytest

from pybuild.builder.events import (
    AddedContent,
    Built,
    BuiltLayer,
    CacheExported,
    Exported,
    LayerProgress,
    Note,
    Pushed,
    StepBroke,
    StepFinished,
    StepOutput,
    StepStarted,
    Transfer,
)
from pybuild.progress.live import LiveView
from tests.support.events import Clock, step, wrote

A = step(1, "first", 1, 2, "RUN make a", of=5)
B = step(2, "other", 2, 3, "RUN make b", of=5)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def view(clock: Clock) -> LiveView:
    return LiveView(clock, colour=False)


def take(view: LiveView, *events: object) -> None:
    for event in events:
        view.take(event)  # type: ignore[arg-type]


def test_running_steps_have_their_time_and_their_last_lines(view: LiveView, clock: Clock) -> None:
    take(view, StepStarted(A))
    clock.now += 1.5
    take(view, StepStarted(B), wrote(A, "one\ntwo\n\nthr"), wrote(B, "b\n"), wrote(A, "ee\n4\n5\n"))
    clock.now += 0.5
    assert view.new_lines(80) == []
    assert view.frame(80, 20) == [
        "[first 1/2]    2.0 s  RUN make a",
        "    | two",
        "    | three",
        "    | 4",
        "    | 5",
        "[other 2/3]    0.5 s  RUN make b",
        "    | b",
        "2.0 s: 0 of 5 steps, 0 cached, 2 running",
    ]


def test_a_named_context_is_not_numbered_as_a_step(view: LiveView) -> None:
    take(view, StepFinished(step(3, "first", 0, 2, "FROM the context src"), False, 0.25))
    assert view.new_lines(80) == ["[first]    0.2 s  FROM the context src"]


def test_finished_steps_are_printed_once(view: LiveView) -> None:
    take(view, StepStarted(A), wrote(A, "x\n"), StepFinished(B, True, 0.0), StepFinished(A, False, 71.25))
    assert view.new_lines(80) == ["[other 2/3]   CACHED  RUN make b", "[first 1/2]   71.2 s  RUN make a"]
    assert view.new_lines(80) == []
    assert view.frame(80, 20) == ["0.0 s: 2 of 5 steps, 1 cached, 0 running"]


def test_a_failed_step_and_parallel_ones(view: LiveView) -> None:
    take(view, StepStarted(A), StepStarted(B), StepBroke(B, 2.0, "RUN exited with status 3", 3))
    view.stop(finished=False)
    assert view.new_lines(80) == ["[other 2/3]   FAILED  RUN make b", "[first 1/2]  stopped  RUN make a"]
    assert view.frame(80, 20) == ["0.0 s"]


def test_the_summary_has_the_size_of_each_layer(view: LiveView, clock: Clock) -> None:
    layers = (BuiltLayer("1", 3_000_000, ""), BuiltLayer("2", 500, ""), BuiltLayer("3", 12_345, "RUN make a"))
    take(view, StepFinished(A, False, 3.0), Built("m", layers, ("app:1", "app:2"), (AddedContent("/opt/", 40_000, "RUN make a"),)), Exported("app.tar", "m", 3_100_000))
    clock.now += 3
    view.stop(finished=True)
    assert view.new_lines(80) == [
        "[first 1/2]    3.0 s  RUN make a",
        "wrote app.tar (3.1 MB)",
        "built in 3.0 s: 1 run, 0 cached",
        "   3.0 MB  base image, 2 layers",
        "  12.3 kB  RUN make a",
        "   3.0 MB  the image, named app:1, app:2",
        "largest of what this build added, before compression:",
        "  40.0 kB  /opt/  by RUN make a",
    ]


def test_transfers_have_bytes_and_a_rate(view: LiveView, clock: Clock) -> None:
    take(view, Transfer("python:3", 0, 10_000_000))
    clock.now += 2
    take(view, Transfer("python:3", 5_000_000, 10_000_000))
    assert view.frame(80, 20) == ["[python:3] 5.0 MB of 10.0 MB, 2.5 MB/s, 2 s left", "2.0 s"]
    take(view, Transfer("h/a", 10, 10, "pushed"), Pushed("h/a:1", "m", 10, 2_000_000))
    assert view.new_lines(80) == ["[h/a] 10 B pushed", "pushed h/a:1 (10 B sent, 2.0 MB spared)"]
    take(view, *[Transfer("python:3", 10_000_000, 10_000_000)] * 2)
    assert (view.new_lines(80), view.frame(80, 20)) == (["[python:3] 10.0 MB fetched"], ["2.0 s"])


def test_a_written_cache_is_a_line(view: LiveView) -> None:
    take(view, CacheExported("h/a:cache", "m", 2, 3, 20, 0))
    assert view.new_lines(80) == ["cached to h/a:cache: 2 records, 3 layers (20 B sent)"]


def test_a_transfer_of_unknown_size(view: LiveView, clock: Clock) -> None:
    take(view, Transfer("http://h/x", 0, None))
    clock.now += 1
    take(view, Transfer("http://h/x", 3000, None))
    assert view.frame(80, 20) == ["[http://h/x] 3.0 kB, 3.0 kB/s", "1.0 s"]
    take(view, Transfer("http://h/x", 4000, 4000))
    assert (view.new_lines(80), view.frame(80, 20)) == (["[http://h/x] 4.0 kB fetched"], ["1.0 s"])


def test_a_long_transfer_has_minutes_left(view: LiveView, clock: Clock) -> None:
    take(view, Transfer("a", 0, 1_000_000))
    clock.now += 2
    take(view, Transfer("a", 2000, 1_000_000))
    assert view.frame(80, 20)[0].endswith(", 17 min left")


def test_a_progress_bar_is_one_line(view: LiveView) -> None:
    take(view, StepStarted(A), wrote(A, "start\n"), *[wrote(A, f"\r{percent}%") for percent in range(99)])
    assert view.frame(80, 20)[1:3] == ["    | start", "    | 98%"]
    take(view, wrote(A, "\r100%\r\ndone"))
    assert view.frame(80, 20)[1:4] == ["    | start", "    | 100%", "    | done"]


def test_a_character_that_has_arrived_in_part_is_not_shown(view: LiveView) -> None:
    first, second = (StepOutput(A, 1, data) for data in (b"caf\xc3", b"\xa9"))
    take(view, StepStarted(A), first)
    assert view.frame(80, 20)[1] == "    | caf"
    take(view, second)
    assert view.frame(80, 20)[1] == "    | café"


def test_the_streams_of_a_step_do_not_mix(view: LiveView) -> None:
    take(view, StepStarted(A), wrote(A, "half"), wrote(A, "error\n", 2), wrote(A, " a line\n"))
    assert view.frame(80, 20)[1:3] == ["    | error", "    | half a line"]


def test_an_endless_line_needs_little_memory(view: LiveView) -> None:
    take(view, StepStarted(A), *[wrote(A, "x" * 65536) for _ in range(100)])
    assert sum(map(len, view._running[1].partial.values())) == 4096
    take(view, wrote(A, "tail\nnext\n"))
    assert view.frame(20, 20)[1:3] == ["    | " + "x" * 13 + "…", "    | next"]


def test_hostile_output_is_harmless(view: LiveView) -> None:
    take(view, StepStarted(step(1, "w\x1b[2J", instruction="RUN \x1b]0;x\x07")), wrote(A, b"\x1b[2J\x1b[31m\xff\x9b\x07\n"))
    assert view.frame(80, 20)[:2] == ["[w [2J 1/2]    0.0 s  RUN ", "    | ��"]


@pytest.mark.parametrize("rows", range(8))
def test_many_steps_on_few_rows(view: LiveView, rows: int) -> None:
    for node in range(100):
        ref = step(node, "s", node + 1, 100)
        take(view, StepStarted(ref), wrote(ref, "x\n"))
    frame = view.frame(80, rows)
    assert len(frame) == rows
    assert [line.partition("]")[0] for line in frame[:-2]] == [f"[s {number}/100" for number in range(1, rows - 1)]
    assert frame[-2:-1] == ([f"and {100 - rows + 2} more running"] if rows > 1 else [])


def test_tails_share_the_available_rows(view: LiveView) -> None:
    take(view, StepStarted(A), StepStarted(B), wrote(A, "1\n2\n3\n"), wrote(B, "4\n5\n6\n"))
    assert view.frame(80, 8)[1:3] == ["    | 2", "    | 3"]
    assert [line[:5] for line in view.frame(80, 4)] == ["[firs", "[othe", "0.0 s"]


@pytest.mark.parametrize("columns", [1, 5, 8, 12, 20, 21, 30])
def test_narrow_terminals(view: LiveView, columns: int) -> None:
    take(view, StepStarted(A), wrote(A, "0123456789" * 9 + "\n"), Transfer("a:1", 1, 9), StepFinished(B, True, 0))
    printed = view.new_lines(columns)
    assert all(len(line) <= columns for line in (*printed, *view.frame(columns, 10)))


def test_notes_and_destinations_are_not_cut(view: LiveView) -> None:
    take(view, Note("x" * 100), Exported("y" * 100, "m", 1))
    assert view.new_lines(20) == ["note: " + "x" * 100, "wrote " + "y" * 100 + " (1 B)"]


def test_only_the_state_is_coloured(clock: Clock) -> None:
    view = LiveView(clock, colour=True)
    take(view, StepFinished(A, True, 0), StepStarted(B), wrote(B, b"\x1b[34mblue\n"))
    assert view.new_lines(80) == ["[first 1/2]   \x1b[32mCACHED\x1b[0m  RUN make a"]
    assert view.frame(80, 9)[1] == "\x1b[2m    | \x1b[0m\x1b[34mblue\x1b[0m"
    for columns in range(30):
        take(view, StepFinished(A, True, 0))
        assert all(line.count("\x1b[") % 2 == 0 for line in view.new_lines(columns))


def test_any_order_of_the_events_of_many_steps(view: LiveView, clock: Clock) -> None:
    """The events of each step keep their order; the steps are interleaved at random."""
    chosen = random.Random(7)
    queues: list[list[StepStarted | StepOutput | StepFinished]] = []
    for node in range(40):
        ref = step(node, f"s{node}")
        queues.append([StepStarted(ref), *(wrote(ref, f"{node}.{n}\n") for n in range(5)), StepFinished(ref, False, 1)])
    running: set[int] = set()
    printed = 0
    while queues:
        queue = chosen.choice(queues)
        event = queue.pop(0)
        view.take(event)
        running ^= {event.step.node} if not hasattr(event, "data") else set()
        frame = view.frame(60, 200)
        assert sum(line.startswith("[") for line in frame) == len(running)
        printed += len(view.new_lines(60))
        queues = [left for left in queues if left]
    assert printed == 40 and not running


def test_a_step_whose_layer_is_being_written_says_so(view: LiveView) -> None:
    take(view, StepStarted(A), LayerProgress(A, 3_200_000_000, 20_000_000_000))
    assert "writing the layer: 3.2 GB of 20.0 GB  RUN make a" in view.frame(80, 5)[0]
    take(view, StepFinished(A, False, 9.0), LayerProgress(A, 1, 2))
    assert not any("writing" in line for line in (*view.new_lines(80), *view.frame(80, 5)))


def test_a_push_has_its_verb_rate_and_time_left(view: LiveView, clock: Clock) -> None:
    take(view, Transfer("app:1", 0, 30_000_000, "pushed"), Transfer("base:1", 0, None))
    clock.now += 1
    take(view, Transfer("app:1", 5_000_000, 30_000_000, "pushed"), Transfer("base:1", 2_000_000, None))
    assert view.frame(80, 9)[:-1] == ["[app:1] 5.0 MB of 30.0 MB pushed, 5.0 MB/s", "[base:1] 2.0 MB, 2.0 MB/s"]
    clock.now += 1
    take(view, Transfer("app:1", 10_000_000, 30_000_000, "pushed"))
    assert view.frame(80, 9)[0] == "[app:1] 10.0 MB of 30.0 MB pushed, 5.0 MB/s, 4 s left"
