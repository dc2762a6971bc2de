"""Events that were recorded as JSON, read back: the counterpart of jsonlines.py."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_STEP = {"node", "stage", "number", "total", "seconds", "instruction"}
_USED = {  # event -> its fields that are shown
    "build_started": {"recipe", "context"},
    "build_failed": {"message"},
    "step_finished": _STEP,
    "step_failed": _STEP,
}


def read_events(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The events of a log, without lines that are damaged: logs are not synced, so a power cut can leave anything."""
    for line in lines:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if (
            isinstance(event, dict)
            and isinstance(name := event.get("event"), str)
            and event.keys() >= _USED.get(name, set())
        ):
            yield event
