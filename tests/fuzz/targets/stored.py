"""What pybuild keeps in its store for itself, and a failing disk can change: cached parses of recipes, and logs of builds."""

from __future__ import annotations

from pybuild.commands.logs import step_line
from pybuild.parser import Source, parse
from pybuild.parser.serial import from_json, to_json, trigger_from_json, trigger_to_json
from pybuild.progress.recorded import read_events
from tests.fuzz.target import FuzzTarget

RECIPE = b"FROM debian AS a\nARG A=b\nRUN --mount=type=cache,target=/c x <<E\ny\nE\nCOPY --from=a --chown=1 a b /c/\nONBUILD ENV a=b\n"
SOURCE = Source("Buildfile", RECIPE.decode())


def read(data: bytes) -> bool:
    """A damaged parse is no parse, and a damaged line of a log is left out."""
    found = from_json(data, SOURCE)
    if found is not None:
        assert from_json(to_json(found), SOURCE) == found
    trigger = trigger_from_json(data)
    if trigger is not None:
        assert trigger_from_json(trigger_to_json(trigger)) == trigger
    events = list(read_events(data.split(b"\n")))
    for event in events:
        if event["event"] in ("step_finished", "step_failed"):
            assert "\n" not in step_line(event, 7)
    return bool(found or trigger or events)


STEP = b'"version":1,"node":2,"stage":"s","number":1,"total":3,"instruction":"RUN x","seconds":0.5'
TARGET = FuzzTarget(
    read,
    seeds=(
        to_json(parse(RECIPE)),
        trigger_to_json(parse(RECIPE).stages[0].instructions[0]),
        b'{"event":"build_started","context":".","recipe":"Buildfile","target":null,"name":null}\n'
        b'{"event":"step_finished","cached":false,' + STEP + b'}\n{"event":"step_failed","status":1,' + STEP + b'}\n'
        b'{"event":"build_failed","message":"m"}\n',
    ),
    words=(
        b'{"Span":[1,1,1,1]}', b'{"Word":["x",', b'{"Stage":[', b'{"From":[', b'{"Run":[', b'{"Buildfile":[', b"null", b"true", b"1e9", b"[", b"]",
        b'"event":', b"step_finished", b'"node":', b"\n", b"\0", b"\\ud800", b"[[[[[[[[[[[[[[[[",
    ),
)  # fmt: skip
