"""Machines that share a cache."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.caches import CacheMachine, cache_machine
from tests.support.registry import DockerRegistry, docker_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Callable[[], CacheMachine]]:
    """Makes machines, each with a store of its own."""
    with ExitStack() as stack:

        def make() -> CacheMachine:
            found = cache_machine(tmp_path / f"machine{len(list(tmp_path.glob('machine*')))}")
            stack.callback(found.store.close)
            stack.callback(found.pool.stop)
            return found

        yield make


@pytest.fixture
def machine(machines: Callable[[], CacheMachine]) -> CacheMachine:
    return machines()


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found
