"""Caches that travel: what one machine built serves another one whose store is empty."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support import no_namespaces
from tests.support.cli import SCRIPT, Pybuild, write_context
from tests.support.machines import RECIPE, Machine, checkout, fetched_layers, swap_tables
from tests.support.people import forget, make_person
from tests.support.registry import DockerRegistry, docker_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def registry(tmp_path: Path, base_archive: Path) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path / "registry") as found:
        found.push(base_archive, "team/base:1")
        yield found


@pytest.fixture
def machine(tmp_path: Path, registry: DockerRegistry) -> Callable[..., Machine]:
    def made(name: str, recipe: str = RECIPE, **files: str) -> Machine:
        context = checkout(tmp_path / f"checkout of {name}", f"{registry.host}/team/base:1", recipe, **files)
        return Machine(Pybuild(tmp_path / name / "store", {"HOME": str(tmp_path / name)}), context)

    return made


def to(registry: DockerRegistry, *more: str) -> str:
    return ",".join(["--cache-to=type=registry", f"ref={registry.host}/team/app:cache", "mode=max", *more])


def from_(registry: DockerRegistry) -> str:
    return f"--cache-from=type=registry,ref={registry.host}/team/app:cache"


def blobs(machine: Machine) -> int:
    """The number of blobs in a store, without manifests and configs, which are small."""
    found = (machine.pybuild.root / "blobs" / "sha256").iterdir()
    return sum(not path.read_bytes().startswith(b"{") for path in found)


def test_another_machine_runs_nothing_and_fetches_no_layer(
    registry: DockerRegistry, machine: Callable[..., Machine]
) -> None:
    """The image is the same, to the byte; the push takes the layers from where they are."""
    a, b = machine("a"), machine("b")
    first = a.build("-t", f"{registry.host}/team/app:1", "--push", to(registry))
    second = b.build("-t", f"{registry.host}/team/app:2", "--push", from_(registry), "--require-cached")
    assert second.out == first.out
    assert set(second.finished().values()) == {True}
    assert fetched_layers(second) == [] and blobs(b) == 0
    b.pybuild.assert_whole()
    again = b.build("-t", "app", "--require-cached")  # now the store alone serves all
    assert again.out == first.out and blobs(b) == 0
    b.pybuild("fetch", "app")
    assert b.pybuild("fsck", "--deep").out.endswith("0 damaged, 0 left over\n")
    write_context(b.context.parent / "c", f"FROM {registry.host}/team/base:1\nRUN true\n")
    b.pybuild("-q", "--network=none", b.context.parent / "c")  # now the base is here, and what lies below can be seen
    assert b.build("--require-cached").out == first.out


def test_one_changed_source_runs_what_depends_on_it(registry: DockerRegistry, machine: Callable[..., Machine]) -> None:
    machine("a").build(to(registry))
    b = machine("b", src__a="changed\n")
    done = b.build(from_(registry), "--explain")
    ran = ["COPY src/ src/", *RUNS, "COPY --from=builder /w/out /out", "RUN wc -l /out > /lines"]
    assert sorted(b.ran(done)) == sorted(ran)
    explained = json.loads(b.pybuild("why", "--json").out)["steps"]
    assert {step["instruction"] for step in explained} == set(ran)
    assert f"compared with the cache {registry.host}/team/app:cache" in done.err
    b.pybuild.assert_whole()


RUNS = (
    "RUN --mount=type=bind,source=settings,target=/settings cat /settings src/a src/sub/b > out",
    "RUN echo $FLAVOUR >> out",
)


def test_why_names_the_variable_that_differs_but_not_its_value_elsewhere(
    registry: DockerRegistry, machine: Callable[..., Machine]
) -> None:
    machine("a").build("--build-arg=FLAVOUR=of machine a", to(registry))
    b = machine("b")
    b.build("--build-arg=FLAVOUR=of machine b", from_(registry))
    (step,) = (step for step in json.loads(b.pybuild("why", "--json").out)["steps"] if "FLAVOUR" in step["instruction"])
    assert step["causes"] == ["ARG FLAVOUR has another value"]
    cache = b.pybuild("cache", "ls", "--json", f"{registry.host}/team/app:cache").out
    assert "of machine" not in cache


def test_records_of_two_machines_are_merged(registry: DockerRegistry, machine: Callable[..., Machine]) -> None:
    """A and B know nothing of each other: the same files have other times, so their layers differ."""
    a, b, c = machine("a"), machine("b", settings="of b\n"), machine("c")
    first, second = a.build(to(registry)), b.build(to(registry))
    for name, expected, settings in (("c", first, "s\n"), ("d", second, "of b\n")):
        c = machine(name, settings=settings)
        done = c.build(from_(registry), "--require-cached")
        assert done.out == expected.out and blobs(c) == 0


def test_of_two_results_of_a_step_the_one_with_more_behind_it_is_taken(
    registry: DockerRegistry, machine: Callable[..., Machine]
) -> None:
    """B built less of the same recipe, and its records were written last."""
    short = "".join(line for line in RECIPE.splitlines(keepends=True) if "wc" not in line and "--from" not in line)
    a, b, c = machine("a"), machine("b", short), machine("c")
    first = a.build(to(registry))
    b.build(to(registry))
    assert c.build(from_(registry), "--require-cached").out == first.out
    # C stood on the results of B until now, in a store of its own.
    d = machine("d", short)
    d.build()
    d = Machine(d.pybuild, checkout(d.context, f"{registry.host}/team/base:1"))
    assert d.build(from_(registry), "--require-cached").out == first.out


@pytest.mark.parametrize("kinds", [("root", "range"), ("range", "root"), ("root", "single"), ("range", "nested")])
def test_across_users_and_id_maps(registry: DockerRegistry, kinds: tuple[str, str]) -> None:
    people = [make_person(kind) for kind in kinds]
    try:
        outs = []
        for person, options in zip(people, ([to(registry)], [from_(registry), "--require-cached"]), strict=True):
            context = checkout(person.home / "checkout", f"{registry.host}/team/base:1")
            for path in (context, *context.rglob("*")):
                os.chmod(path, 0o755 if path.is_dir() else 0o644)
            pybuild = person.pybuild(HOME=str(person.home))
            outs.append(Machine(pybuild, context).build(*options).out)
            pybuild.assert_whole()
        assert outs[0] == outs[1]
    finally:
        for person in people:
            forget(person)


def test_results_of_a_single_id_do_not_travel(registry: DockerRegistry, machine: Callable[..., Machine]) -> None:
    """A command that goes on after a chown that failed leaves other files than it would elsewhere."""
    person = make_person("single")
    try:
        context = checkout(person.home / "checkout", f"{registry.host}/team/base:1")
        for path in (context, *context.rglob("*")):
            os.chmod(path, 0o755 if path.is_dir() else 0o644)
        Machine(person.pybuild(HOME=str(person.home)), context).build(to(registry))
    finally:
        forget(person)
    b = machine("b")
    done = b.build(from_(registry))
    assert not [text for text in RUNS if done.finished()[text]]
    assert done.finished()["COPY src/ src/"] and done.finished()["COPY --chown=www-data settings /srv/settings"]


def test_without_namespaces_a_cached_image_can_be_pushed(
    registry: DockerRegistry, machine: Callable[..., Machine]
) -> None:
    first = machine("a").build(to(registry))
    b = machine("b")
    forbidden = Machine(
        Pybuild(b.pybuild.root, b.pybuild.environment, (sys.executable, no_namespaces.__file__, "filter", SCRIPT)),
        b.context,
    )
    done = forbidden.build("-t", f"{registry.host}/team/app:2", "--push", from_(registry))
    assert done.out == first.out


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_directory(tmp_path: Path, machine: Callable[..., Machine], mode: str) -> None:
    """mode=min has the layers of the image alone, and serves the image just as well."""
    cache = tmp_path / "cache"
    first = machine("a").build(f"--cache-to=type=local,dest={cache},mode={mode}")
    moved = cache.rename(tmp_path / "moved")
    b = machine("b")
    done = b.build(f"--cache-from=type=local,src={moved}", "--require-cached", "-t", "app")
    assert done.out == first.out and blobs(b) == 0
    b.pybuild("fetch", "app")
    shutil.rmtree(moved)
    b.pybuild("-q", "--network=none", "-o", f"type=oci,dest={tmp_path}/out.tar", b.context)
    b.pybuild.assert_whole()
    held = len(list((tmp_path / "b" / "store" / "blobs" / "sha256").iterdir()))
    assert held >= 6


def test_the_image_itself(registry: DockerRegistry, machine: Callable[..., Machine]) -> None:
    a, b = machine("a"), machine("b")
    name = f"{registry.host}/team/app:1"
    first = a.build("-t", name, "--push", "--cache-to=type=inline")
    assert a.build("-t", name, "--push", "--cache-to=type=inline").out == first.out
    done = b.build("-t", name, "--push", f"--cache-from={name}", "--cache-to=type=inline", "--require-cached")
    assert done.out == first.out and blobs(b) == 0
    assert b.pybuild("inspect", name).out.count("pybuild.cache") == 1


def test_buildkits_argument_for_it(registry: DockerRegistry, machine: Callable[..., Machine]) -> None:
    a = machine("a")
    argument, option = (a.build(one) for one in ("--build-arg=BUILDKIT_INLINE_CACHE=1", "--cache-to=type=inline"))
    assert argument.out == option.out != a.build().out


def test_an_earlier_clamp_serves(registry: DockerRegistry, machine: Callable[..., Machine]) -> None:
    """A commit later, SOURCE_DATE_EPOCH is later too, and no layer is written anew."""
    first = machine("a").pybuild
    a, b = machine("a"), machine("b")
    assert a.pybuild == first
    early = a.pybuild("-q", "--network=none", to(registry), a.context, SOURCE_DATE_EPOCH="1000")
    late = b.pybuild("-q", "--network=none", from_(registry), "--require-cached", b.context, SOURCE_DATE_EPOCH="2000")
    same = b.pybuild("-q", "--network=none", from_(registry), b.context, SOURCE_DATE_EPOCH="1000")
    assert blobs(b) == 0 and same.out == early.out != late.out
    layers = [
        json.loads(p("inspect", d.out.strip()).out)["manifest"]["layers"]
        for p, d in ((a.pybuild, early), (b.pybuild, late))
    ]
    assert layers[0] == layers[1]


def test_times_that_are_too_late_are_bounded_here(registry: DockerRegistry, machine: Callable[..., Machine]) -> None:
    machine("a").build(to(registry))
    b, alone = machine("b"), machine("alone")
    done = b.pybuild("-q", "--network=none", from_(registry), b.context, SOURCE_DATE_EPOCH="1000")
    assert blobs(b) > 0
    expected = alone.pybuild("-q", "--network=none", alone.context, SOURCE_DATE_EPOCH="1000")
    assert done.out == expected.out


def test_a_changed_last_step_fetches_what_it_stands_on(
    registry: DockerRegistry, machine: Callable[..., Machine]
) -> None:
    machine("a").build(to(registry))
    b = machine("b", RECIPE.replace("wc -l", "wc -c"))
    done = b.build("-t", "app", from_(registry))
    assert b.ran(done) == ["RUN wc -c /out > /lines"]
    # The layers below the RUN: that of the base, and three of COPY steps; those of the builder stay where they are.
    here = [path for path in (b.pybuild.root / "blobs/sha256").iterdir() if not path.read_bytes().startswith(b"{")]
    assert len(here) == 5
    b.pybuild.assert_whole()


PLACED = """\
FROM {base}
RUN mkdir -p /srv/site /opt && ln -s /srv/site /www && echo heavy > /heavy && chmod 700 /srv
WORKDIR /opt/app
COPY --chown=7:8 settings /www/
COPY src/ ./
"""


@pytest.mark.parametrize("through", ["registry", "directory"])
def test_files_are_placed_on_layers_that_stay_where_they_are(
    registry: DockerRegistry, machine: Callable[..., Machine], tmp_path: Path, through: str
) -> None:
    """The layers are those that a machine with all files makes: links, owners and modes below are known."""
    there = {"registry": [to(registry), from_(registry)], "directory": [
        f"--cache-to=type=local,dest={tmp_path}/cache,mode=max", f"--cache-from=type=local,src={tmp_path}/cache",
    ]}[through]  # fmt: skip
    a, b = machine("a", PLACED), machine("b", PLACED, settings="other\n")
    name = f"{registry.host}/team/app"
    a.build(there[0], "-t", f"{name}:1", "--push")
    done = b.build(there[1], "-t", f"{name}:2", "--push")
    assert b.ran(done) == ["COPY --chown=7:8 settings /www/", "COPY src/ ./"]
    assert len(fetched_layers(done)) == 0 or through == "directory"  # a registry cannot take layers from a directory
    whole = Machine(a.pybuild, b.context)
    expected = whole.build("-t", f"{name}:2")
    layers = [json.loads(m.pybuild("inspect", f"{name}:2").out)["manifest"]["layers"] for m in (b, whole)]
    assert layers[0] == layers[1] and expected.out
    b.pybuild.assert_whole()
    b.pybuild("fetch", f"{name}:2")
    b.pybuild("-q", "--network=none", write_context(tmp_path / "c", f"FROM {name}:2\nRUN cat /srv/site/settings\n"))
    b.pybuild.assert_whole()
    # What was made by the tables serves the next machine.
    b.build(there[1], there[0])
    c = machine("c", PLACED, settings="other\n")
    assert c.build(there[1], "--require-cached").finished().keys()


def test_a_table_that_was_wrong_costs_the_steps_made_by_it(
    registry: DockerRegistry, machine: Callable[..., Machine], tmp_path: Path
) -> None:
    """A writes the table of another layer for the layer of its RUN: what B makes by it does not stay."""
    cache = tmp_path / "cache"
    a, b = machine("a", PLACED), machine("b", PLACED, settings="other\n")
    a.build(f"--cache-to=type=local,dest={cache},mode=max")
    swap_tables(cache, "RUN mkdir", "WORKDIR")
    name = f"{registry.host}/team/app:2"
    done = b.build(f"--cache-from=type=local,src={cache}", "-t", name)
    assert fetched_layers(done) == []
    wrong = layers_of(b, name)
    # Now a RUN reads the layers.
    with_run = machine("r", PLACED + "RUN ls -l /srv/site\n", settings="other\n")
    again = Machine(b.pybuild, with_run.context).build(f"--cache-from=type=local,src={cache}", "-t", name)
    assert any("made again" in str(event.get("text", "")) for event in again.events)
    whole = Machine(a.pybuild, with_run.context)
    whole.build("-t", name)
    assert layers_of(b, name)[:-1] == layers_of(whole, name)[:-1] != wrong[:-1]
    b.pybuild.assert_whole()


def layers_of(machine: Machine, name: str) -> list[str]:
    """The digests of an image's layers."""
    return [layer["digest"] for layer in json.loads(machine.pybuild("inspect", name).out)["manifest"]["layers"]]


def test_a_cached_build_leaves_the_cache_as_it_is(registry: DockerRegistry, machine: Callable[..., Machine]) -> None:
    a, b = machine("a"), machine("b")
    written = [
        event
        for done in (a.build(to(registry)), a.build(to(registry)), b.build(from_(registry), to(registry)))
        for event in done.events
        if event["event"] == "cache_exported"
    ]
    assert len({str(event["manifest"]) for event in written}) == 1
    assert [event["sent"] for event in written[1:]] == [0, 0]
