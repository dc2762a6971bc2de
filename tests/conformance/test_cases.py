"""Each recorded case gives what BuildKit made of it. recorded.py describes the cases, record.py records them.

Every second one is built by root, the others by an ordinary user with subordinate ids; `make conformance` lets both build all
of them. What was built is built again on the same store: same digest, and every step from the cache.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures import make_base
from tests.conformance.flatten import flatten
from tests.conformance.recorded import CASES, Base, make_context, read_json, recorded_form
from tests.support.archive import ReadImage, read_archive
from tests.support.cli import BASE, Done
from tests.support.people import Person, forget, make_person

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = sorted(path.name for path in CASES.iterdir())


class Bench:
    """A user's store with the recorded base, shared by the cases, and what is needed to compare with it."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.pybuild = person.pybuild()
        busybox = make_base.static_busybox()
        assert busybox is not None, "make tools installs busybox-static"
        base = Base(Path(busybox))
        self.names_of_contents = base.names_of_contents
        archive = person.home / "base.tar"
        base.write(archive, f"{BASE}:latest")
        self.pybuild("import", archive)
        self.base = flatten(read_archive(archive), self.names_of_contents)


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    person = make_person(request.param)
    yield Bench(person)
    forget(person)


class Case:
    """A case made ready to be built."""

    def __init__(self, name: str, bench: Bench) -> None:
        directory = bench.person.home / name
        directory.mkdir()
        os.chown(directory, bench.person.uid, bench.person.uid)
        self._directory = directory
        self._pybuild = bench.pybuild
        self.recipe = directory / "Dockerfile"
        make_context(read_json(CASES / name, "context.json"), directory / "context", bench.person.uid)
        shutil.copy(CASES / name / "Dockerfile", self.recipe)
        ignored = directory / "context/Dockerfile.dockerignore"
        if ignored.exists():  # it belongs beside the recipe
            shutil.copy(ignored, directory)
        options = read_json(CASES / name, "options.json")
        self._flags = [f"--build-arg={key}={value}" for key, value in options.get("args", {}).items()]
        self._flags += [f"--target={options['target']}"] if "target" in options else []

    def build(self, out: str, *more: str) -> Done:
        output = f"type=oci,dest={self.archive(out)}"
        return self._pybuild.run("-f", self.recipe, *self._flags, *more, "-o", output, self._directory / "context")

    def archive(self, out: str) -> Path:
        return self._directory / out

    def result(self, out: str) -> ReadImage:
        return read_archive(self.archive(out))


BUILDS = [name for name in NAMES if read_json(CASES / name, "expected.json")["builds"]]
FAILS = [name for name in NAMES if not read_json(CASES / name, "expected.json")["builds"]]
PEOPLE = ("root", "range")


def built_by_people(names: list[str]) -> pytest.MarkDecorator:
    """Each case with one of the people, or with all of them."""
    everybody = "PYBUILD_EVERYBODY" in os.environ
    # In this order the store of each of them is made once.
    pairs = [
        (name, person)
        for turn, person in enumerate(PEOPLE)
        for number, name in enumerate(names)
        if everybody or number % len(PEOPLE) == turn
    ]
    return pytest.mark.parametrize(("name", "bench"), pairs, indirect=["bench"])


def test_all_cases_are_run() -> None:
    assert len(NAMES) == 82
    assert sorted([*BUILDS, *FAILS]) == NAMES


@built_by_people(BUILDS)
def test_a_recipe_gives_the_recorded_image(name: str, bench: Bench) -> None:
    expected = read_json(CASES / name, "expected.json")
    case = Case(name, bench)
    done = case.build("out.tar")
    assert done.status == 0, done.err
    image = case.result("out.tar")
    assert recorded_form(image, bench.base, bench.names_of_contents) == expected
    assert_again_from_the_cache(case, image, len(expected["layers"]))


def assert_again_from_the_cache(case: Case, image: ReadImage, layers: int) -> None:
    again = case.build("again.tar", "--progress=json")
    assert again.status == 0, again.err
    assert case.result("again.tar").digest == image.digest
    assert all(again.finished().values()), again.finished()
    assert again.finished() or not layers, "steps that leave a layer are reported"


@built_by_people(FAILS)
def test_a_recipe_that_must_not_build_is_refused_for_the_recorded_reason(name: str, bench: Bench) -> None:
    error = read_json(CASES / name, "expected.json").get("error", {})
    case = Case(name, bench)
    done = case.build("out.tar")
    assert done.status == 1, done.err
    assert "Traceback" not in done.err
    assert not case.archive("out.tar").exists()
    if error.get("line"):
        assert f":{error['line']}:" in done.err
    for words in error.get("contains", []):
        assert words.lower() in done.err.lower()
