"""A few rounds of each kind of fault; `make faults` does many."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.faults.figures import Budget, Figures, Wrong, table
from tests.faults.kinds import KINDS, Kind
from tests.faults.trial import ground

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.trial import Ground

SEED = int(os.environ.get("PYBUILD_SEED", "1"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with ground(tmp_path_factory.mktemp("faults") / "ground") as found:
        yield found


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_nothing_is_damaged_and_nothing_left(prepared: Ground, kind: Kind) -> None:
    trial = prepared.trial(kind.name, SEED)
    (kind.small or kind.run)(trial, Budget(kind.few, 3600.0))
    assert trial.figures.clean, "\n".join(trial.figures.seen)
    assert trial.figures.rounds == kind.few


def test_the_table_shows_what_went_wrong() -> None:
    good, bad = Figures("good", rounds=3), Figures("bad", rounds=2)
    bad.add(Wrong.LEFT, "a process")
    bad.count("of build", 2)
    assert (good.clean, bad.clean, Figures("none").clean) == (True, False, False)
    assert bad.seen == ["bad, round 2, left: a process"]
    lines = table([good, bad]).splitlines()
    assert lines[0].split("  ")[0] == "kind" and lines[1].split() == ["good", "3", "0", "0", "0", "0", "0", "0"]
    assert lines[2].split() == ["bad", "2", "0", "1", "0", "0", "0", "0"]
    assert lines[-1] == "bad: 2 of build"
