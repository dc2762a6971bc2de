"""What all tests stand on: a base image made of this machine's busybox, and a store that holds it."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from collections import defaultdict
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.support.cli import CHECKOUT, FIXTURES, Pybuild, copy_store, prepare_store
from tests.support.people import Person, forget, make_person
from tests.support.registry import DockerRegistry, docker_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


# The same examples in every run, however busy the machine is: a run fails for what was changed and for nothing else.
settings.register_profile(
    "tests", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
settings.load_profile("tests")


def pytest_configure() -> None:
    """Tests start the installed command: one that knows other packages than pyproject.toml names would fail in all of them."""
    ready = CHECKOUT / ".venv" / "ready"
    if ready.exists() and ready.stat().st_mtime < (CHECKOUT / "pyproject.toml").stat().st_mtime:
        pytest.exit("pyproject.toml is newer than .venv: make .venv/ready", returncode=4)


# Of the parameter sets of each test in these directories and files, `make test` runs one of so many; all run without
# PYBUILD_SHARE. CI runs all of conformance and users besides (.ci/run).
SHARES = {
    "tests/e2e": 5, "tests/containers": 3, "tests/builder/steps": 2, "tests/builder/solve": 2, "tests/builder/workers": 2,
    "tests/users": 2, "tests/conformance": 2, "tests/documents/test_how_to": 2, "tests/test_readme": 2,
}  # fmt: skip


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take a share of the parameter sets of each test, always the same ones, and at least one of each test."""
    if "PYBUILD_SHARE" not in os.environ:
        return
    sets: dict[str, list[str]] = defaultdict(list)
    for item in items:
        sets[item.nodeid.partition("[")[0]].append(item.nodeid)
    kept = set()
    for test, names in sets.items():
        share = next((share for place, share in SHARES.items() if test.startswith((f"{place}/", f"{place}.py"))), 1)
        # Neighbours in the order of a checksum have nothing in common: all values of all parameters occur.
        names.sort(key=lambda name: zlib.crc32(name.encode()))
        kept.update(names[: -(-len(names) // share)])
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in kept])
    items[:] = [item for item in items if item.nodeid in kept]


@pytest.fixture(scope="session")
def base_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI archive of the base image."""
    path = tmp_path_factory.mktemp("base") / "base.tar"
    subprocess.run([sys.executable, FIXTURES / "make_base.py", path], check=True)
    return path


@pytest.fixture(scope="session")
def store_with_base(tmp_path_factory: pytest.TempPathFactory, base_archive: Path) -> Path:
    """A store that holds only the base image, unpacked; copied, never used."""
    place = tmp_path_factory.mktemp("seed")
    prepare_store(Pybuild(place / "store"), base_archive, place / "context")
    return place / "store"


@pytest.fixture
def pybuild(tmp_path: Path, store_with_base: Path) -> Pybuild:
    """The command, with a store of the test's own that holds the base image."""
    assert os.geteuid() == 0, "the tests need root; `make test` asks sudo for it"
    root = tmp_path / "store"
    copy_store(store_with_base, root)
    return Pybuild(root)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, base_archive: Path) -> Iterator[DockerRegistry]:
    """A real registry on loopback, open to all, with the base image."""
    with docker_registry(tmp_path_factory.mktemp("registry")) as found:
        found.push(base_archive, "team/base:1")
        yield found


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The compiled probe.c, which tests the kernel from inside a step."""
    path = tmp_path_factory.mktemp("probe") / "probe"
    source = CHECKOUT / "tests/builder/sandbox/probe.c"
    subprocess.run(["gcc", "-Wall", "-Wextra", "-Werror", "-O1", "-static", "-o", path, source], check=True)
    return path.read_bytes()


@pytest.fixture(scope="session")
def stores_of_people(base_archive: Path) -> Iterator[Callable[[str], Path]]:
    """Kind of person -> such a store of theirs."""
    with ExitStack() as stack:

        @cache
        def prepared(kind: str) -> Path:
            found = make_person(kind)
            stack.callback(forget, found)
            prepare_store(found.pybuild(), found.take(base_archive), found.home / "context")
            return found.home / "store"

        yield prepared


@pytest.fixture(params=["root", "range", "single"])
def person(
    request: pytest.FixtureRequest, base_archive: Path, stores_of_people: Callable[[str], Path]
) -> Iterator[Person]:
    """Each of those who run pybuild, with a store that holds the base image. `indirect` parameters name others."""
    found = make_person(request.param)
    found.take(base_archive)
    copy_store(stores_of_people(request.param), found.home / "store")
    yield found
    forget(found)
