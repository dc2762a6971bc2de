"""The rows, one module a workload. A row is made when it is asked for, with all that it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.workloads import importing, pull, ready

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bench.row import Row
    from bench.world import World

ROWS: Mapping[str, Callable[[World], Row]] = {
    "pull": pull.row,
    "ready": ready.row,
    "import": importing.row,
}
