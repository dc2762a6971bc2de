"""The isolation of steps is found out once a build, and only if it was asked for."""

from __future__ import annotations

import pytest

from pybuild.builder.host.rung import FULL
from pybuild.builder.options import Isolation
from pybuild.builder.workers import sandbox_client
from pybuild.builder.workers.pool import Pool


def test_full_isolation_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sandbox_client, "SandboxWorker")
    with Pool() as pool:
        assert pool.rung is FULL


@pytest.mark.parametrize("isolation", [Isolation.AUTO, Isolation.CONTAINER])
def test_another_one_is_tried_once(monkeypatch: pytest.MonkeyPatch, isolation: Isolation) -> None:
    tried = []

    class Counted(sandbox_client.SandboxWorker):
        def __init__(self, *arguments: object, attempt: bool, **named: object) -> None:
            tried.append(attempt)
            super().__init__(*arguments, attempt=attempt, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(sandbox_client, "SandboxWorker", Counted)
    with Pool(isolation=isolation) as pool:
        first = pool.rung
        assert first.is_full
        assert first.own_ids is not None
        assert pool.rung is first
        pool.stop()  # as a step with limits that fails does
        pool._sandbox_worker()
        assert pool.rung is first
    assert tried == [True, False]
