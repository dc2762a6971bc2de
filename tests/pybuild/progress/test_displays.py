"""The displays plain, github and quiet, with interleaved events of parallel steps."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybuild.builder.errors import BuildError, StepFailed
from pybuild.builder.events import (
    AddedContent,
    Built,
    BuiltLayer,
    CacheExported,
    CheckWarning,
    Event,
    Exported,
    LayerProgress,
    Note,
    Pushed,
    StepBroke,
    StepFinished,
    StepRef,
    StepStarted,
    Transfer,
)
from pybuild.parser import Source, Span
from pybuild.progress import kind_for
from pybuild.progress.github import GithubProgress
from pybuild.progress.lines import BufferedOutput, OutputLines
from pybuild.progress.plain import PlainProgress
from pybuild.progress.quiet import QuietProgress
from pybuild.store.formats.digest import Digest
from tests.support.events import Clock, step, wrote

A = step(1, "first", 1, 2, "RUN a")
B = step(2, "other", 2, 3, "RUN b")
SOURCE = Source("/checkout/app/Buildfile", "FROM x\nRUN b\n")
BUILT = Built("sha256:m", (BuiltLayer("sha256:1", 2000, ""), BuiltLayer("sha256:2", 1500, "RUN b")))


def placed(error: BuildError, span: Span, source: Source) -> BuildError:
    error.span, error.source = span, source
    return error


FAILED = placed(StepFailed("RUN exited with status 3", 3), Span(2, 1, 2, 6), SOURCE)


def plain(*events: Event, terminal: bool = False) -> tuple[PlainProgress, io.BytesIO]:
    out = io.BytesIO()
    display = PlainProgress(out, Clock(), terminal=terminal)
    for event in events:
        display(event)
    return display, out


def lines(out: io.BytesIO) -> list[str]:
    return out.getvalue().decode().splitlines()


# -- plain


def test_lines_of_parallel_steps_stay_whole() -> None:
    _, out = plain(
        StepStarted(A), StepStarted(B), wrote(A, "one a"), wrote(B, "one b\ntwo"), wrote(A, "gain\n"),
        wrote(A, "err", 2), wrote(B, " b\n"), StepFinished(A, False, 1.25), StepFinished(B, False, 2.0),
    )  # fmt: skip
    assert lines(out) == [
        "[first 1/2] RUN a", "[other 2/3] RUN b", "[other 2/3] 0.0 s | one b", "[first 1/2] 0.0 s | one again",
        "[other 2/3] 0.0 s | two b", "[first 1/2] 0.0 s | err", "[first 1/2] done in 1.2 s", "[other 2/3] done in 2.0 s",
    ]  # fmt: skip


def test_a_layer_that_is_being_written_gets_a_line_every_few_seconds() -> None:
    clock, out = Clock(), io.BytesIO()
    display = PlainProgress(out, clock, terminal=False)
    display(StepStarted(A))
    for seconds in (0, 1, 4.9, 5, 6, 11):
        clock.now = seconds
        display(LayerProgress(A, int(seconds * 10**9), 20 * 10**9))
    display(LayerProgress(B, 10**9, 2 * 10**9))
    assert lines(out) == [
        "[first 1/2] RUN a",
        "[first 1/2] writing the layer: 0 B of 20.0 GB",
        "[first 1/2] writing the layer: 5.0 GB of 20.0 GB",
        "[first 1/2] writing the layer: 11.0 GB of 20.0 GB",
        "[other 2/3] writing the layer: 1.0 GB of 2.0 GB",
    ]


def test_github_says_that_a_layer_is_being_written() -> None:
    _, out = github(StepStarted(A), LayerProgress(A, 0, 10**9), StepFinished(A, False, 1.0))
    assert lines(out)[1:] == ["[first 1/2] writing the layer: 0 B of 1.0 GB", "[first 1/2] done in 1.0 s"]


def test_output_to_a_pipe_is_unchanged() -> None:
    data = b"\x1b[31mred\x1b[0m \xff\x00 10%\n"
    _, out = plain(StepStarted(A), wrote(A, data))
    assert out.getvalue() == b"[first 1/2] RUN a\n[first 1/2] 0.0 s | " + data


def test_a_progress_bar_does_not_flood_a_log() -> None:
    reading = b"".join(b"(Reading database ... %d%%\r" % percent for percent in range(0, 101, 5))
    _, out = plain(StepStarted(A), wrote(A, reading), wrote(A, b"(Reading database ... 107 files)\r\n"))
    assert lines(out)[1:] == ["[first 1/2] 0.0 s | (Reading database ... 107 files)"]


def test_output_to_a_terminal_is_made_harmless() -> None:
    _, out = plain(StepStarted(A), wrote(A, b"\x1b[2J\x1b[31mred\x1b]0;title\x07 \xff\n"), terminal=True)
    assert lines(out)[1] == "[first 1/2] 0.0 s | red �", "without colours"
    coloured = io.BytesIO()
    display = PlainProgress(coloured, Clock(), terminal=True, colour=True)
    for event in (StepStarted(A), wrote(A, b"\x1b[2J\x1b[31mred\x1b]0;title\x07 \xff\n")):
        display(event)
    assert lines(coloured)[1] == "\x1b[36m[first 1/2]\x1b[0m 0.0 s | \x1b[31mred �\x1b[0m"


def test_plain_lines_have_colours_if_asked_for() -> None:
    out = io.BytesIO()
    display = PlainProgress(out, Clock(), terminal=False, colour=True)
    for event in (StepFinished(A, True, 0.0), StepStarted(B), wrote(B, b"\x1b[31mred\n"), StepFinished(B, False, 2.0)):
        display(event)
    assert lines(out) == [
        "\x1b[36m[first 1/2]\x1b[0m \x1b[32mCACHED\x1b[0m RUN a",
        "\x1b[36m[other 2/3]\x1b[0m RUN b",
        "\x1b[36m[other 2/3]\x1b[0m 0.0 s | \x1b[31mred",
        "\x1b[36m[other 2/3]\x1b[0m done in 2.0 s",
    ]


def test_a_failed_step_is_shown_again_if_others_wrote_in_between(capsys: pytest.CaptureFixture[str]) -> None:
    display, out = plain(
        StepStarted(A), StepStarted(B), wrote(B, "".join(f"{n}\n" for n in range(12))), wrote(A, "between\n"),
        StepBroke(B, 1.0, "RUN exited with status 3", 3),
    )  # fmt: skip
    display.failed(FAILED)
    assert lines(out)[-11:] == [
        "[other 2/3] failed; its last output:", *(f"[other 2/3] 0.0 s | {n}" for n in range(2, 12)),
    ]  # fmt: skip
    assert capsys.readouterr().err == (
        "/checkout/app/Buildfile:2:1: error: RUN exited with status 3\n    2 | RUN b\n      | ^\n"
    )


def test_a_failed_step_is_not_repeated_right_below(capsys: pytest.CaptureFixture[str]) -> None:
    display, out = plain(StepStarted(A), wrote(A, "x\n"), StepStarted(B), wrote(B, "one\ntwo"), StepBroke(B, 1.0, "", 3))
    display.failed(FAILED)
    assert lines(out)[-3:] == ["[other 2/3] RUN b", "[other 2/3] 0.0 s | one", "[other 2/3] 0.0 s | two"]


def test_output_has_the_seconds_since_its_step_began() -> None:
    clock, out = Clock(), io.BytesIO()
    display = PlainProgress(out, clock, terminal=False)
    display(StepStarted(A))
    clock.now += 75.25
    display(StepStarted(B))
    display(wrote(A, "one\n"))
    clock.now += 2
    display(wrote(B, "two\n"))
    assert lines(out)[2:] == ["[first 1/2] 75.2 s | one", "[other 2/3] 2.0 s | two"]


def test_transfers_are_shown_at_intervals_and_once_at_the_end() -> None:
    out, clock = io.BytesIO(), Clock()
    display = PlainProgress(out, clock, terminal=False)
    for seconds, done in ((0, 0), (1, 10), (6, 20), (7, 30), (7, 30), (8, 30)):
        clock.now = 1000.0 + seconds
        display(Transfer("app:1", done, 30))
    assert lines(out) == [
        "[app:1] 0 B of 30 B fetched",
        "[app:1] 20 B of 30 B fetched, 3 B/s, 3 s left",
        "[app:1] 30 B of 30 B fetched",
    ]


def test_a_transfer_of_unknown_size_is_shown_at_intervals() -> None:
    out, clock = io.BytesIO(), Clock()
    display = PlainProgress(out, clock, terminal=False)
    for seconds, done in ((1, 10), (3, 20), (7, 20)):
        clock.now = 1000.0 + seconds
        display(Transfer("http://h/x", done, None))
    display(Transfer("http://h/x", 30, 30))
    assert lines(out) == [f"[http://h/x] {text}" for text in ("10 B fetched so far", "20 B fetched so far, 1 B/s", "30 B of 30 B fetched")]
    _, out = github(Transfer("http://h/x", 10, None), Transfer("http://h/x", 30, 30))
    assert lines(out) == ["[http://h/x] 30 B fetched"]


def test_a_push_is_shown_with_what_was_spared() -> None:
    events = Transfer("h/a", 20, 20, "pushed"), Pushed("h/a:1", "m", 20, 2_000_000), Pushed("h/a:2", "m", 20, 0)
    shown = ["[h/a] 20 B pushed", "pushed h/a:1 (20 B sent, 2.0 MB spared)", "pushed h/a:2 (20 B sent)"]
    assert lines(plain(*events)[1])[-3:] == ["[h/a] 20 B of 20 B pushed", *shown[1:]]
    assert lines(github(*events)[1])[-3:] == shown


def test_a_written_cache_is_shown() -> None:
    events = CacheExported("h/a:cache", "m", 12, 1, 20, 2_000_000), CacheExported("/tmp/c\x1b", "m", 1, 0, 0, 0)
    shown = [
        "cached to h/a:cache: 12 records, 1 layer (20 B sent, 2.0 MB spared)",
        "cached to /tmp/c : 1 record, 0 layers (0 B sent)",
    ]
    assert lines(plain(*events)[1]) == shown
    assert lines(github(*events)[1]) == shown


def test_the_summary_has_the_size_of_each_layer() -> None:
    display, out = plain(
        StepFinished(A, True, 0), StepStarted(B), StepFinished(B, False, 1), BUILT, Exported("x", "", 9)
    )
    display.finished(Digest.of(b""))
    assert lines(out)[-5:] == [
        "wrote x (9 B)", "built in 0.0 s: 1 run, 1 cached", "   2.0 kB  base image, 1 layer", "   1.5 kB  RUN b",
        "   3.5 kB  the image",
    ]  # fmt: skip


def test_the_summary_has_names_and_the_largest_files_with_what_made_them() -> None:
    largest = (AddedContent("/a\x1b[1m\udcff", 2_000_000, "RUN " + 80 * "x"), AddedContent("/d/", 1000, "COPY d /d"))
    display, out = plain(Built("sha256:m", BUILT.layers, ("app:1", "app:2"), largest))
    display.finished(Digest.of(b""))
    assert lines(out)[-4:] == [
        "   3.5 kB  the image, named app:1, app:2",
        "largest of what this build added, before compression:",
        f"   2.0 MB  /a\\x1b[1m\\xff  by RUN {55 * 'x'}…",
        "   1.0 kB  /d/  by COPY d /d",
    ]


def test_an_endless_line_is_shown_in_pieces() -> None:
    found = OutputLines()
    for _ in range(70):
        pieces = found.feed(wrote(A, b"x" * (1 << 16)))
        assert all(len(piece) == 1 << 20 for piece in pieces)
    assert sum(len(piece) for piece in found.end(1)) <= 1 << 20


@given(st.lists(st.tuples(st.sampled_from([A, B]), st.sampled_from([1, 2]), st.text("ab\n", max_size=9))))
def test_all_bytes_are_shown_with_their_own_step(pieces: list[tuple[StepRef, int, str]]) -> None:
    found = OutputLines()
    shown: dict[tuple[int, int], list[str]] = {}
    expected: dict[tuple[int, int], str] = {}
    for ref, stream, text in pieces:
        expected[ref.node, stream] = expected.get((ref.node, stream), "") + text
        for line in found.feed(wrote(ref, text, stream)):
            shown.setdefault((ref.node, stream), []).append(line.decode())
    for ref in (A, B):
        rest = [line.decode() for line in found.end(ref.node)]
        streams = [stream for stream in (1, 2) if not expected.get((ref.node, stream), "\n").endswith("\n")]
        streams = [stream for stream in streams if expected[ref.node, stream]]
        assert len(rest) == len(streams)
        for stream, remaining in zip(streams, rest, strict=True):
            shown.setdefault((ref.node, stream), []).append(remaining)
    assert {key: text.splitlines() for key, text in expected.items() if text} == shown


# -- quiet


def test_quiet_shows_only_the_failed_step(capfd: pytest.CaptureFixture[str]) -> None:
    display = QuietProgress()
    for event in (StepStarted(A), StepStarted(B), wrote(A, "of a\n"), wrote(B, "of b, "), wrote(B, "whole\n")):
        display(event)
    display(StepFinished(A, False, 1.0))
    display(StepBroke(B, 1.0, "RUN exited with status 3", 3))
    display.failed(BuildError("it failed"))
    assert capfd.readouterr().err == "of b, whole\nerror: it failed\n"


def test_quiet_drops_the_output_of_earlier_steps(capfd: pytest.CaptureFixture[str]) -> None:
    display = QuietProgress()
    for event in (StepStarted(A), wrote(A, "of a\n"), StepFinished(A, False, 1.0)):
        display(event)
    display.failed(BuildError("cannot write"))
    assert capfd.readouterr().err == "error: cannot write\n"


def test_large_output_is_buffered_completely() -> None:
    held = BufferedOutput()
    for number in range(50_000):
        held.add(wrote(A, f"{number}\n"))
        held.add(wrote(B, "other\n"))
    assert b"".join(held.take(A.node)) == b"".join(b"%d\n" % number for number in range(50_000))
    assert (held.nodes(), list(held.take(A.node))) == ([B.node], [])


# -- GitHub Actions


def github(*events: Event, workspace: str = "/checkout") -> tuple[GithubProgress, io.BytesIO]:
    out = io.BytesIO()
    display = GithubProgress(out, workspace, Clock(), lambda: "TOKEN")
    for event in events:
        display(event)
    return display, out


def test_output_is_shown_while_the_step_runs() -> None:
    display, out = github(StepStarted(A), wrote(A, "one\ntw"))
    assert out.getvalue().endswith(b"::group::[first 1/2] RUN a\n::stop-commands::TOKEN\none\n")
    display(wrote(A, "o\n"))
    assert out.getvalue().endswith(b"TOKEN\none\ntwo\n")
    display(StepFinished(A, False, 2.0))
    assert out.getvalue().endswith(b"two\n::TOKEN::\n::endgroup::\n[first 1/2] done in 2.0 s\n")


def test_groups_of_parallel_steps_do_not_overlap() -> None:
    _, out = github(
        StepStarted(A), StepStarted(B), wrote(A, "a1\n"), wrote(B, "b1\n"), wrote(A, "a2"),
        StepFinished(B, False, 2.0), wrote(A, "\n"), StepFinished(A, False, 3.0),
    )  # fmt: skip
    assert out.getvalue() == (
        b"[first 1/2] RUN a\n[other 2/3] RUN b\n"
        b"::group::[first 1/2] RUN a\n::stop-commands::TOKEN\na1\na2\n::TOKEN::\n::endgroup::\n"
        b"::group::[other 2/3] RUN b\n::stop-commands::TOKEN\nb1\n::TOKEN::\n::endgroup::\n[other 2/3] done in 2.0 s\n"
        b"::group::[first 1/2] (continued) RUN a\n::stop-commands::TOKEN\n\n::TOKEN::\n::endgroup::\n"
        b"[first 1/2] done in 3.0 s\n"
    )


def test_if_the_shown_step_ends_another_one_is_shown() -> None:
    _, out = github(StepStarted(A), StepStarted(B), wrote(A, "a\n"), wrote(B, "b\n"), StepFinished(A, False, 1.0), wrote(B, "c\n"))
    assert out.getvalue().endswith(
        b"[first 1/2] done in 1.0 s\n::group::[other 2/3] RUN b\n::stop-commands::TOKEN\nb\nc\n"
    )


def test_an_annotation_can_be_written_while_a_group_is_open() -> None:
    _, out = github(StepStarted(A), wrote(A, "a\n"), CheckWarning("Rule", "x", SOURCE, Span(1, 6, 1, 7)), wrote(A, "::error::\n"))
    assert out.getvalue().endswith(
        b"a\n::TOKEN::\n::warning title=Rule,file=app/Buildfile,line=1,col=6::x\n::stop-commands::TOKEN\n::error::\n"
    )


def test_a_step_without_output_has_no_group() -> None:
    _, out = github(StepFinished(A, True, 0), StepStarted(B), StepFinished(B, False, 2.0), Note("x"), BUILT)
    assert lines(out) == ["[first 1/2] CACHED RUN a", "[other 2/3] RUN b", "[other 2/3] done in 2.0 s", "note: x"]


def test_a_failure_is_an_annotation_with_its_location() -> None:
    display, out = github(StepStarted(B), wrote(B, "b1\n"), StepBroke(B, 1.0, "RUN exited with status 3", 3))
    out.truncate(0), out.seek(0)
    display.failed(FAILED)
    assert out.getvalue() == (
        b"::error file=app/Buildfile,line=2,col=1::RUN exited with status 3\n"
        b"/checkout/app/Buildfile:2:1: error: RUN exited with status 3\n    2 | RUN b\n      | ^\n"
    )


def test_the_output_of_steps_parallel_to_a_failure_is_shown() -> None:
    display, out = github(StepStarted(A), StepStarted(B), wrote(A, "a\n"), wrote(B, "b\n"), StepBroke(B, 1.0, "", 3))
    display.failed(FAILED)
    titles = [line for line in lines(out) if line.startswith("::group::")]
    assert titles == ["::group::[first 1/2] RUN a", "::group::[other 2/3] RUN b"]
    assert [line for line in lines(out) if "FAILED" in line or "stopped" in line] == [
        "[other 2/3] FAILED after 1.0 s", "[first 1/2] stopped",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("message", "path", "expected"),
    [
        ("50% of\r\na::b", "/checkout/f", "::error file=f,line=2,col=1::50%25 of%0D%0Aa::b"),
        ("x", "/checkout/a:b,c%", "::error file=a%3Ab%2Cc%25,line=2,col=1::x"),
        ("x", "/elsewhere/f", "::error file=/elsewhere/f,line=2,col=1::x"),
    ],
)
def test_annotations_are_escaped(message: str, path: str, expected: str) -> None:
    display, out = github()
    display.failed(placed(BuildError(message), Span(2, 1, 2, 2), Source(path, "a\nb\n")))
    assert lines(out)[0] == expected


def test_a_warning_is_an_annotation_too() -> None:
    _, out = github(CheckWarning("Rule", "10% of it", SOURCE, Span(1, 6, 1, 7)))
    assert lines(out) == ["::warning title=Rule,file=app/Buildfile,line=1,col=6::10%25 of it"]


def test_an_error_without_a_location() -> None:
    display, out = github(workspace="")
    display.failed(BuildError("no space"))
    assert lines(out) == ["::error::no space", "error: no space"]


HOSTILE = ("::set-output name=a::b", "  ::add-mask::x", "x\r::warning::y", "log ##[add-path]/evil", "::endgroup::")
COMMAND = re.compile(r"^\s*::([a-z-]+)[ :]")


@pytest.mark.parametrize("text", HOSTILE)
def test_the_runner_finds_no_commands_in_untrusted_output(text: str) -> None:
    """Parses the output like the runner: lines end at \\r or \\n; `::` starts a command at the start of a line, `##[` anywhere."""
    hostile = step(1, "first", 1, 1, f"RUN {text}")
    display, out = github(StepStarted(hostile), wrote(hostile, f"{text}\n"), Note(text), Exported(text, "", 1))
    display(StepBroke(hostile, 1.0, text, 1))
    display(CheckWarning(text, text, SOURCE, Span(1, 1, 1, 2)))
    display.failed(placed(BuildError(text), Span(1, 1, 1, 2), Source("f", f"{text}\n")))
    obeyed, stopped = [], False
    for line in re.split("[\r\n]", out.getvalue().decode()):
        if line == "::TOKEN::":
            stopped = False
        elif not stopped and (found := COMMAND.match(line)):
            obeyed.append(found[1])
            stopped = found[1] == "stop-commands"
        elif not stopped:
            assert "##[" not in line
    assert [name for name in obeyed if name != "stop-commands"] == ["group", "endgroup", "warning", "error"]
    assert not stopped


# -- the choice

CHOICES = [
    ("auto", {"TERM": "xterm"}, True, "tty"),
    ("auto", {"TERM": "dumb"}, True, "plain"),
    ("auto", {}, True, "plain"),
    ("auto", {"TERM": "xterm"}, False, "plain"),
    ("auto", {"GITHUB_ACTIONS": "true"}, False, "github"),
    ("plain", {"GITHUB_ACTIONS": "true"}, False, "plain"),
    ("tty", {"TERM": "xterm"}, True, "tty"),
    ("json", {"TERM": "xterm"}, True, "json"),
    ("quiet", {}, False, "quiet"),
]


@pytest.mark.parametrize(("asked", "environ", "terminal", "expected"), CHOICES)
def test_the_display_for_each_option_and_environment(asked: str, environ: dict[str, str], terminal: bool, expected: str) -> None:
    assert kind_for(asked, environ, terminal=terminal) == expected


@pytest.mark.parametrize(("environ", "terminal", "why"), [({"TERM": "dumb"}, True, "'dumb'"), ({}, False, "is not a terminal")])
def test_an_impossible_live_view_is_refused(environ: dict[str, str], terminal: bool, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        kind_for("tty", environ, terminal=terminal)
