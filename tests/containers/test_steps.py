"""RUN in containers as podman and Docker start them by default, and as they start them with fewer restrictions.

runc runs the containers: tests/support/container_config.py has what the two give to a container.
"""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import BASE, Done
from tests.support.container_config import HOST_NAME, PODMAN_PROFILE
from tests.support.containers import CONTAINERS, in_shell, make_container
from tests.support.people import Person, forget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RECIPE = f"""\
FROM {BASE}
RUN hostname > /name; cat /etc/hosts > /hosts-seen; chown 33:33 /name; rm /etc/passwd
RUN mkdir /d && mv /d /e && stat -c %u /name
"""
RUNGS = {
    "podman": "container", "seccomp-off": "container", "unmasked": "container", "65536-ids": "container",
    "read-only": "container", "pod-with-ids": "container", "unmasked-pod-with-ids": "full", "unconfined": "full",
}  # fmt: skip
NOTE = "note: the isolation of RUN steps is `container`, not `full`: this container refuses a new "


@pytest.fixture
def container(base_archive: Path) -> Iterator[Callable[..., Person]]:
    """Somebody in a container, by its name; the archive of the base image is in the home."""
    made: list[Person] = []

    def make(name: str, **changes: object) -> Person:
        made.append(make_container(name, **changes))
        made[-1].take(base_archive)
        return made[-1]

    yield make
    for person in made:
        forget(person)


def build(person: Person, recipe: str, *arguments: object) -> Done:
    """Import the base image and build a recipe, both in containers."""
    pybuild = person.pybuild()
    pybuild("import", person.home / "base.tar")
    return pybuild.run("--progress=plain", *arguments, person.context("context", recipe))


@pytest.mark.parametrize("name", RUNGS)
def test_auto_takes_what_the_container_allows(container: Callable[..., Person], name: str) -> None:
    done = build(container(name), RECIPE, "--isolation=auto")
    assert done.status == 0, done.err
    assert done.err.count(NOTE) == (RUNGS[name] == "container")
    assert "| 33" in done.err


def test_one_line_says_what_is_refused(container: Callable[..., Person]) -> None:
    said = build(container("podman"), RECIPE, "--isolation=auto").err
    assert f"{NOTE}host name, a new /proc and a new /sys; see pybuild doctor\n" in said
    said = build(container("unmasked"), RECIPE, "--isolation=auto").err
    assert f"{NOTE}host name; see pybuild doctor\n" in said


def test_the_host_name_of_the_container_is_in_etc_hosts(container: Callable[..., Person]) -> None:
    recipe = f"FROM {BASE}\nRUN hostname; cat /etc/hosts; nslookup $(hostname) 127.0.0.1 || true\n"
    said = build(container("podman"), recipe, "--isolation=container").err
    assert f"| {HOST_NAME}\n" in said
    assert f"127.0.0.1\tlocalhost {HOST_NAME}\n" in said


@pytest.mark.parametrize("name", ["podman", "seccomp-off"])
def test_full_fails_and_names_both_ways_out(container: Callable[..., Person], name: str) -> None:
    done = build(container(name), RECIPE)
    assert done.status == 1
    *_, error, _, _, hint = done.err.splitlines()
    assert "Buildfile:2:1: error: " in error
    assert hint.startswith("hint: ")
    assert "--isolation=container" in hint
    assert "--security-opt unmask=ALL (podman)" in hint
    assert "procMount: Unmasked (Kubernetes)" in hint


@pytest.mark.parametrize("name", ["docker", "docker-user-1000"])
def test_without_namespaces_only_run_fails(container: Callable[..., Person], name: str) -> None:
    person = container(name)
    context = person.context("copy", f"FROM {BASE}\nCOPY file /d/\nWORKDIR /w\nENV a=b\n", file="text\n")
    pybuild = person.pybuild()
    pybuild("import", person.home / "base.tar")
    pybuild("--isolation=auto", context)
    done = pybuild.run("--isolation=auto", person.context("run", RECIPE))
    assert done.status == 1
    assert "error: RUN needs a user namespace, and this machine refuses one: a seccomp filter" in done.err
    hint = done.err.splitlines()[-1]
    assert "--security-opt seccomp=unconfined" in hint
    assert "--isolation=container" in hint


def test_a_user_with_nothing_has_one_id(container: Callable[..., Person]) -> None:
    recipe = f"FROM {BASE}\nRUN id -u; touch /made\nRUN chown 33 /made\n"
    done = build(container("user-1000"), recipe, "--isolation=auto")
    assert done.status == 1
    assert "| 0\n" in done.err
    assert "hint: a RUN has one user and one group here, and chown to another one fails" in done.err


@pytest.mark.parametrize("user", [0, 1000])
def test_no_new_privileges_are_no_obstacle(container: Callable[..., Person], user: int) -> None:
    recipe = f"FROM {BASE}\nRUN grep NoNewPrivs /proc/self/status\n"
    done = build(container("seccomp-off", user=user, no_new_privileges=True), recipe, "--isolation=auto")
    assert done.status == 0, done.err
    assert "| NoNewPrivs:\t1" in done.err


def test_a_store_in_memory_works(container: Callable[..., Person]) -> None:
    person = container("podman", tmpfs=("/store",))
    context = person.context("context", RECIPE)
    script = f"export PYBUILD_ROOT=/store; pybuild import {person.home}/base.tar && pybuild --isolation=auto {context}"
    done = person.pybuild()
    run = type(done)(done.root, done.environment, in_shell(person, script)).run()
    assert run.status == 0, run.err


def test_steps_work_in_copies_if_the_store_is_on_the_root_of_the_container(container: Callable[..., Person]) -> None:
    person = container("podman")
    context = person.context("context", RECIPE)
    begin = f"export PYBUILD_ROOT=/opt/store; pybuild import {person.home}/base.tar && pybuild --isolation=auto"
    done = person.pybuild()
    run = type(done)(done.root, done.environment, in_shell(person, f"{begin} {context} && pybuild fsck")).run()
    assert run.status == 0, run.err
    assert run.err.count("note: RUN steps work in copies of their files, because the filesystem of the store takes no") == 1
    assert "0 damaged, 0 left over" in run.out
    run = type(done)(done.root, done.environment, in_shell(person, f"{begin} --snapshots=overlay {context}")).run()
    assert run.status == 1
    hint = run.err.splitlines()[-1]
    assert "--snapshots=auto" in hint
    assert "-v NAME:/var/lib/pybuild" in hint
    assert "--tmpfs /var/lib/pybuild:mode=700" in hint
    assert "--root" in hint


def test_a_security_module_that_refuses_mounts_is_named(container: Callable[..., Person], tmp_path: Path) -> None:
    """AppArmor's profiles for containers say `deny mount`: mount(2) is EACCES. Here a filter answers so."""
    profile = json.loads(PODMAN_PROFILE.read_text())
    for rule in profile["rules"]:
        rule["names"] = [name for name in rule["names"] if name != "mount"]
    profile["rules"].append({"names": ["mount"], "errno": errno.EACCES})
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    done = build(container("podman", profile=tmp_path / "profile.json"), RECIPE, "--isolation=auto")
    assert done.status == 1
    assert "error: RUN needs a mount namespace, and a security module refuses to change its mounts" in done.err
    assert "hint: start the container with --security-opt apparmor=unconfined" in done.err


def test_every_container_is_tested() -> None:
    assert set(CONTAINERS) == {*RUNGS, "docker", "docker-user-1000", "user-1000", "no-volume", "user-1000-no-volume"}
