"""The rows, one module per workload. A row and its inputs are created when the row is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.workloads import (
    big,
    copies,
    fresh,
    ignore,
    importing,
    in_place,
    lazy,
    multi,
    noop,
    pull,
    push,
    ready,
    run50,
    rungs,
    runtree,
    small,
    sparse,
    stages,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bench.row import Row
    from bench.world import World

ROWS: Mapping[str, Callable[[World], Row]] = {
    "noop": noop.row,
    "run50": run50.row,
    "rungs": rungs.row,
    "in-place-switch": in_place.switch,
    "in-place-look": in_place.look,
    "copies": copies.first,
    "copied-runs": copies.further,
    "small": small.cold,
    "incr": small.changed,
    "big": big.zstd,
    "big-gzip": big.gzip,
    "runtree": runtree.row,
    "sparse": sparse.row,
    "multi": multi.row,
    "stages": stages.eight,
    "beside": stages.beside,
    "pull": pull.row,
    "push": push.empty,
    "push-again": push.again,
    "push-layer": push.layer,
    "ready": ready.row,
    "lazy": lazy.row,
    "fresh": fresh.unchanged,
    "fresh-run": fresh.changed,
    "import": importing.row,
    "ignore": ignore.row,
}
