"""What took time in a build, from its events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pybuild.pages.build_data import earlier_build
from pybuild.pages.timeline import timeline
from pybuild.progress.recorded import read_events
from pybuild.store.objects.builds import StoredBuild


def event(name: str, time: float, node: int | None = None, **fields: object) -> dict[str, Any]:
    step = {} if node is None else {"node": node, "stage": "s", "number": node, "total": 9, "instruction": f"RUN {node}"}
    return {"event": name, "time": 1000 + time, **step, **fields}


def ran(node: int, start: float, end: float) -> list[dict[str, Any]]:
    return [event("step_started", start, node), event("step_finished", end, node, cached=False, seconds=end - start)]


def cached(node: int, time: float) -> list[dict[str, Any]]:
    return [event("step_finished", time, node, cached=True, seconds=0.0)]


BEGIN = [event("build_started", 0, recipe=None, context=".")]


@pytest.mark.parametrize(
    ("events", "needs", "found"),
    [
        pytest.param([], {}, [], id="nothing"),
        pytest.param(ran(1, 1, 3), {1: [0]}, [(1, "ran", 1, 3, 0, True)], id="one step on a base"),
        pytest.param(
            [*ran(1, 0, 2), *ran(2, 0, 5), *ran(3, 5.5, 6)], {3: [1, 2]},
            [(1, "ran", 0, 2, 0, False), (2, "ran", 0, 5, 0, True), (3, "ran", 5.5, 6, 0.5, True)],
            id="the later of two steps that one needs",
        ),
        pytest.param(
            [*ran(1, 0, 2), *ran(3, 2, 4)], {3: [2], 2: [1]}, [(1, "ran", 0, 2, 0, True), (3, "ran", 2, 4, 0, True)],
            id="through a node without events",
        ),
        pytest.param(
            [*cached(1, 1), *ran(2, 1, 4)], {2: [1]}, [(1, "cached", 1, 1, 0, False), (2, "ran", 1, 4, 0, True)],
            id="nobody waits for what is cached",
        ),
        pytest.param(
            [*ran(1, 0, 3), *ran(2, 2, 4)], {2: [1]}, [(1, "ran", 0, 3, 0, True), (2, "ran", 2, 4, 0, True)],
            id="a step that begins while the layer below is written",
        ),
        pytest.param(
            [event("step_started", 1, 1), event("step_started", 1, 2), event("step_failed", 3, 2, seconds=2)], {},
            [(1, "stopped", 1, 3, 0, False), (2, "failed", 1, 3, 0, True)], id="a failure stops the others",
        ),
        pytest.param(
            [event("step_finished", 5, 1, cached=False, seconds=2)], {}, [(1, "ran", 3, 5, 0, True)],
            id="the beginning is lost",
        ),
        pytest.param(ran(1, 1, 2), {1: [1, 2], 2: [1]}, [(1, "ran", 1, 2, 0, True)], id="a circle, in a damaged store"),
        pytest.param([{"event": "step_started", "node": "x", "time": 1}, {"event": "x"}], {}, [], id="damaged events"),
    ],
)  # fmt: skip
def test_steps(events: list[dict[str, Any]], needs: dict[int, list[int]], found: list[tuple[object, ...]]) -> None:
    steps = timeline([*BEGIN, *events], needs).steps
    shown = [(s.node, s.outcome, round(s.start, 3), round(s.end, 3), round(s.wait, 3), s.critical) for s in steps]
    assert shown == found


def test_transfers_last_from_their_first_event_to_the_last() -> None:
    events = [event("transfer", time, image="a", done=int(10 * time), total=40, kind="fetched") for time in (1, 3, 2)]
    events.append(event("transfer", 4, image="a", done=7, total=None, kind="pushed"))
    found = timeline([*BEGIN, *events], {})
    assert [(each.name, each.verb, each.start, each.size) for each in found.transfers] == [
        ("a", "fetched", 1.0, 20),
        ("a", "pushed", 4.0, 7),
    ]
    assert found.end == 4.0


def test_the_build_before_has_the_same_recipe_and_target() -> None:
    def build(id: str, recipe: str = "/r", target: str = "") -> StoredBuild:
        return StoredBuild(id, recipe, target, "", ())

    builds = [build("(cache) x"), build("1"), build("2", target="t"), build("3", "/other"), build("4"), build("5")]
    assert [earlier_build(builds, id) for id in ("1", "2", "4", "5", "unknown")] == [None, None, "1", "4", None]


def test_lines_of_a_log_that_are_no_events_are_left_out() -> None:
    lines = [b"{", b"[1]", b'{"event": 5}', b'{"event": "build_started"}', json.dumps(BEGIN[0]).encode()]
    assert list(read_events(lines)) == BEGIN


def test_the_static_files_are_plain_text() -> None:
    for path in (Path(__file__).parents[3] / "pybuild/pages/static").iterdir():
        text = path.read_text("utf-8")
        assert "innerHTML" not in text and "eval(" not in text and "http" not in text, path.name
