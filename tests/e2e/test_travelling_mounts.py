"""Cache mounts that travel: what pip, npm or apt kept on one machine is there on the next one, if a RUN needs it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import Pybuild
from tests.support.machines import Machine, checkout, fetched_layers
from tests.support.mounts import PIP, RECIPE, from_, had, mounts_in, notes, to
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
    def made(name: str, recipe: str = RECIPE) -> Machine:
        context = checkout(tmp_path / f"checkout of {name}", f"{registry.host}/team/base:1", recipe)
        return Machine(Pybuild(tmp_path / name / "store", {"HOME": str(tmp_path / name)}), context)

    return made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_what_one_machine_kept_is_there_on_the_next(machine: Callable[..., Machine], cache: Path) -> None:
    a, b, alone = machine("a"), machine("b"), machine("alone")
    assert had(a.build(to(cache))) == []
    b, alone = (Machine(m.pybuild.with_environment({"SOURCE_DATE_EPOCH": "1000"}), m.context) for m in (b, alone))
    done = b.build("--build-arg=V=2", from_(cache), to(cache))
    assert had(done) == [f"{PIP}/http/1", "/npm/package"]
    assert len([text for text in notes(done) if "is restored from" in text]) == 2
    assert done.out == alone.build("--build-arg=V=2").out, "what a cache mount has is in no image"
    b.pybuild.assert_whole()
    # B has added to it.
    c = machine("c")
    assert had(c.build("--build-arg=V=3", from_(cache))) == [f"{PIP}/http/1", f"{PIP}/http/2", "/npm/package"]
    # A mount that is there is never replaced.
    assert had(a.build("--build-arg=V=4", from_(cache))) == [f"{PIP}/http/1", "/npm/package"]


def test_in_a_registry_nothing_is_fetched_if_all_is_cached(
    machine: Callable[..., Machine], registry: DockerRegistry
) -> None:
    ref = f"{registry.host}/team/app:cache"
    target, source = f"--cache-to=type=registry,ref={ref},mode=max,mounts=all", f"--cache-from=type=registry,ref={ref}"
    a, b = machine("a"), machine("b")
    first = a.build(target)
    (written,) = (event for event in first.events if event["event"] == "cache_exported")
    assert written["mounts"] == 2
    cached = b.build(source, target, "--require-cached")
    assert cached.out == first.out and fetched_layers(cached) == [] and notes(cached) == []
    assert json.loads(b.pybuild("df", "--json").out)["items"] == [] or not list(b.pybuild.root.glob("cachemounts/*"))
    (kept,) = (event for event in cached.events if event["event"] == "cache_exported")
    assert kept["mounts"] == 2 and kept["sent"] == 0
    done = b.build(source, target, "--build-arg=V=2")
    assert had(done) == [f"{PIP}/http/1", "/npm/package"]
    again = b.build(source, target, "--build-arg=V=2")
    (unchanged,) = (event for event in again.events if event["event"] == "cache_exported")
    assert unchanged["sent"] == 0 and had(machine("c").build(source, "--build-arg=V=3"))[:2] == [f"{PIP}/http/{v}" for v in "12"]


def test_cache_ls_and_prune_know_cache_mounts(machine: Callable[..., Machine], cache: Path) -> None:
    a = machine("a")
    a.build(to(cache))
    found = mounts_in(a, cache)
    assert set(found) == {"pip", "/npm"} and not found["pip"]["secret"]
    shown = a.pybuild("cache", "ls", cache).out
    assert "CACHE MOUNT" in shown and ", 2 cache mounts: " in shown
    assert "2 records removed, 0 left" not in a.pybuild("cache", "prune", "--max-records=1000", cache).out
    out = a.pybuild("cache", "prune", "--max-size=1", cache).out
    assert "and 2 cache mounts removed, 0 and 0 left" in out
    assert mounts_in(a, cache) == {}


def test_only_the_mounts_that_are_named_travel(machine: Callable[..., Machine], cache: Path) -> None:
    a = machine("a")
    done = a.build(to(cache, "pip,absent"))
    assert set(mounts_in(a, cache)) == {"pip"}
    assert notes(done) == ["mounts=absent: no RUN of this build has a cache mount with this id"]
    a.build(to(cache, "/npm/"))  # the id of a mount without one is its target
    assert set(mounts_in(a, cache)) == {"pip", "/npm"}
    a.build(to(cache, None))
    assert set(mounts_in(a, cache)) == {"pip", "/npm"}, "what is there stays"


def test_a_namespace_has_mounts_of_its_own(machine: Callable[..., Machine], cache: Path) -> None:
    a, b = machine("a"), machine("b")
    a.build(to(cache, "pip"), "--build-arg=BUILDKIT_CACHE_MOUNT_NS=one")
    assert set(mounts_in(a, cache)) == {"one/pip"}
    assert had(b.build(from_(cache), "--build-arg=V=2", "--build-arg=BUILDKIT_CACHE_MOUNT_NS=two")) == []
    same = b.build(from_(cache), "--build-arg=V=2", "--no-cache", "--build-arg=BUILDKIT_CACHE_MOUNT_NS=one")
    assert had(same) == [f"{PIP}/http/1"]


SECRET = f"""\
FROM {{base}}
ARG V=1
RUN --mount=type=secret,id=token --mount=type=cache,id=pip,target={PIP} --mount=type=cache,id=ro,target=/ro,ro \\
    find {PIP} -type f | sed 's|^|had |'; cp /run/secrets/token {PIP}/token 2> /dev/null; echo $V > /made
RUN --mount=type=cache,id=ro,target=/ro echo $V > /ro/file
"""


def test_a_mount_that_a_step_with_a_secret_could_write_to_travels_only_by_its_name(
    tmp_path: Path, machine: Callable[..., Machine], cache: Path
) -> None:
    (tmp_path / "token").write_text("hunter2\n")
    a, b = machine("a", SECRET), machine("b", SECRET)
    secret = f"--secret=id=token,src={tmp_path}/token"
    done = a.build(secret, to(cache))
    assert set(mounts_in(a, cache)) == {"ro"}, "the step could not write to this one"
    assert "the cache mount pip is not saved: a step with a secret could write to it" in notes(done)[0]
    # The store remembers it: in later builds without the secret too.
    a.build(to(cache), "--build-arg=V=2", "--no-cache")
    assert set(mounts_in(a, cache)) == {"ro"}
    assert not any(b"hunter2" in path.read_bytes() for path in cache.rglob("*") if path.is_file())
    a.build(to(cache, "pip"), "--build-arg=V=2")
    assert mounts_in(a, cache)["pip"]["secret"]
    # It is the same on the next machine.
    other = tmp_path / "other"
    assert had(b.build(from_(cache), to(other), "--build-arg=V=3")) == [f"{PIP}/token"]
    assert set(mounts_in(b, other)) == {"ro"}


CARRIES = """\
FROM {base}
RUN --mount=type=secret,id=token --mount=type=cache,target=/one cp /run/secrets/token /one/token
RUN --mount=type=cache,target=/one,ro --mount=type=cache,target=/two cp /one/token /two/token; echo made > /made
RUN --mount=type=cache,target=/two --mount=type=cache,target=/three --mount=type=cache,target=/four,ro cp /two/token /three/token
RUN --mount=type=cache,target=/four echo four > /four/file
"""


def test_a_secret_that_steps_without_it_carry_on(
    tmp_path: Path, machine: Callable[..., Machine], cache: Path
) -> None:
    """From the mount that a step with the secret has written to, into others."""
    (tmp_path / "token").write_text("hunter2\n")
    machine("a", CARRIES).build(f"--secret=id=token,src={tmp_path}/token", to(cache))
    assert set(mounts_in(machine("b"), cache)) == {"/four"}


def test_a_secret_that_was_not_given_keeps_nothing_back(machine: Callable[..., Machine], cache: Path) -> None:
    a = machine("a", SECRET)
    a.build(to(cache))
    assert set(mounts_in(a, cache)) == {"pip", "ro"}


SEEDED = """\
FROM {base} AS seed
RUN mkdir -p /seed && echo seed > /seed/file
FROM {base}
ARG V=1
RUN --mount=type=cache,id=seeded,from=seed,source=/seed,target=/t find /t -type f | sort | sed 's|^|had |'; echo $V > /t/$V
RUN --mount=type=cache,id=seeded,from=seed,source=/seed,target=/t,ro ls /t > /dev/null; echo $V > /made
"""


def test_a_mount_that_begins_with_files_of_a_stage(machine: Callable[..., Machine], cache: Path) -> None:
    machine("a", SEEDED).build(to(cache))
    b, c = machine("b", SEEDED), machine("c", SEEDED.replace("echo seed", "echo other"))
    assert had(b.build(from_(cache), "--build-arg=V=2")) == ["/t/1", "/t/file"]
    assert had(c.build(from_(cache), "--build-arg=V=2")) == ["/t/file"], "other initial content is another mount"


MODES = """\
FROM {base}
ARG V=1
RUN --mount=type=cache,id=app,target=/t,uid=33,gid=34,mode=1770 \\
    find /t | sort | xargs stat -c 'had %n %a %u:%g %h %Y' | sed 's|^had /t |had . |'; \\
    mkdir -p /t/d && echo $V > /t/d/file && ln -f /t/d/file /t/link; ln -sf ../../etc/passwd /t/sym; chown -h 33:34 /t/sym; \\
    chown 7:8 /t/d/file; chmod 4751 /t/d/file; touch -d @1000000000 /t/d/file; echo $V > /made
"""


@pytest.mark.parametrize("kinds", [("root", "range"), ("range", "root")])
def test_owners_modes_links_and_times_across_users(registry: DockerRegistry, cache: Path, kinds: tuple[str, str]) -> None:
    people = [make_person(kind) for kind in kinds]
    ref = f"type=registry,ref={registry.host}/team/app:cache"
    try:
        for person, more in zip(people, ([f"--cache-to={ref},mounts=all"], [f"--cache-from={ref}", "--build-arg=V=2"]), strict=True):
            context = checkout(person.home / "checkout", f"{registry.host}/team/base:1", MODES)
            for path in (context, *context.rglob("*")):
                os.chmod(path, 0o755 if path.is_dir() else 0o644)
            pybuild = person.pybuild(HOME=str(person.home))
            done = Machine(pybuild, context).build(*more)
            pybuild.assert_whole()
        lines = had(done)
        assert lines[0].startswith(". 1770 33:34 ")
        assert "/t/d/file 4751 7:8 2 1000000000" in lines and "/t/link 4751 7:8 2 1000000000" in lines
        assert any(line.startswith("/t/sym 777 33:34 1 ") for line in lines)
    finally:
        for person in people:
            forget(person)


def test_a_single_id_restores_what_it_can_and_does_not_save_that(registry: DockerRegistry) -> None:
    people = [make_person(kind) for kind in ("root", "single")]
    ref = f"type=registry,ref={registry.host}/team/app:cache"
    recipe = MODES.replace(",uid=33,gid=34", "")
    try:
        for person, more in zip(
            people,
            ([f"--cache-to={ref},mounts=all"], [f"--cache-from={ref}", f"--cache-to={ref},mounts=all", "--build-arg=V=2"]),
            strict=True,
        ):
            context = checkout(person.home / "checkout", f"{registry.host}/team/base:1", recipe)
            for path in (context, *context.rglob("*")):
                os.chmod(path, 0o755 if path.is_dir() else 0o644)
            done = Machine(person.pybuild(HOME=str(person.home)), context).build(*more)
        assert any(line.startswith("/t/d/file 4751 0:0 ") for line in had(done))
        assert any("some of its files belong to users that do not exist here" in text for text in notes(done))
    finally:
        for person in people:
            forget(person)
