"""RUN --mount=type=cache: what persists between steps and builds, and which steps share a cache."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.archive import read_archive
from tests.support.cli import Pybuild, write_context
from tests.support.people import Person
from tests.support.processes import running
from tests.support.runs import outputs

BASE = "FROM pybuild.test/base"


def run(pybuild: Pybuild, context: Path, *arguments: object) -> list[str]:
    return "".join(outputs(pybuild("--progress=json", *arguments, context)).values()).splitlines()


def caches(pybuild: Pybuild) -> list[str]:
    """The names of the cache mounts of the store."""
    items = json.loads(pybuild("df", "--json").out)["items"]
    return sorted(item["name"] for item in items if item["kept_for"] == "cache mounts")


def in_use(pybuild: Pybuild) -> list[str]:
    """The names of the cache mounts that a step has mounted now."""
    items = json.loads(pybuild("df", "--json").out)["items"]
    return sorted(item["name"] for item in items if item["in_use"])


def test_a_cache_stays_and_nothing_of_it_is_in_a_layer(person: Person) -> None:
    pybuild = person.pybuild()
    recipe = f"{BASE}\nARG X\nRUN --mount=type=cache,target=/var/c/ echo $X >> /var/c/log; cat /var/c/log; stat -c '%a %u:%g' /var/c\n"
    context = person.context("c", recipe)
    out = person.home / "o.tar"
    assert run(pybuild, context, "--build-arg", "X=1", "-o", f"type=oci,dest={out}") == ["1", "755 0:0"]
    assert read_archive(out).names(1) == []
    assert run(pybuild, context, "--build-arg", "X=2") == ["1", "2", "755 0:0"]
    assert run(pybuild, context, "--build-arg", "X=2") == [], "cached: what a cache holds is no reason to run again"
    assert caches(pybuild) == ["/var/c"]
    freed = json.loads(pybuild("gc", "--all", "--json").out)
    assert freed["cache_mounts"] == 1
    assert run(pybuild, context, "--build-arg", "X=3") == ["3", "755 0:0"]
    pybuild.assert_whole()


def test_caches_differ_by_name_owner_and_namespace(tmp_path: Path, pybuild: Pybuild) -> None:
    look = "ls /t && touch /t/$N\n"
    mounts = ["", ",id=a", ",id=/t", ",mode=1777", ",uid=5,gid=6", ",id=a,sharing=locked"]
    lines = "".join(f"RUN --mount=type=cache,target=/t{more} N={n} && {look}" for n, more in enumerate(mounts))
    context = write_context(
        tmp_path / "c", f"{BASE}\n{lines}RUN --mount=type=cache,target=/t,uid=5,gid=6,mode=700 ls -nd /t\n"
    )
    found = run(pybuild, context)
    assert found[:2] == ["0", "1"] and found[2].startswith("drwx------") and found[2].split()[2:4] == ["5", "6"]
    assert caches(pybuild) == ["/t"] * 4 + ["a"]
    # In another namespace these caches do not exist.
    again = run(pybuild, context, "--no-cache", "--build-arg", "BUILDKIT_CACHE_MOUNT_NS=other")
    assert again[:2] == found[:2]
    assert caches(pybuild) == ["/t"] * 4 + ["a"] + ["other//t"] * 4 + ["other/a"]
    pybuild.assert_whole()


def test_a_cache_can_begin_with_files_of_a_stage(tmp_path: Path, pybuild: Pybuild) -> None:
    recipe = (
        f"{BASE} AS made\nRUN mkdir -p /s/d && echo 1 > /s/d/f && chown 3:4 /s/d/f\n{BASE}\n"
        "ARG X\nRUN --mount=type=cache,target=/t,from=made,source=/s cat /t/d/f && stat -c %u:%g /t/d/f && echo $X >> /t/d/f\n"
    )
    context = write_context(tmp_path / "c", recipe)
    assert run(pybuild, context, "--build-arg", "X=2") == ["1", "3:4"]
    assert run(pybuild, context, "--build-arg", "X=3") == ["1", "2", "3:4"]


def test_a_path_in_a_cache_is_found_in_it_and_nowhere_else(person: Person) -> None:
    """CVE-2024-9675 and CVE-2024-23651: ids and sources were paths, and links in a cache were followed."""
    pybuild = person.pybuild()
    mount = "RUN --mount=type=cache,id=../../../../x"
    recipe = f"{BASE}\n{mount},target=/t mkdir -p /t/sub && echo in > /t/sub/f; rm -f /t/sel /t/up; ln -s /etc /t/sel; ln -s / /t/up\n"
    good = person.context("good", f"{recipe}{mount},target=/s,source=sub,ro cat /s/f; touch /s/x 2> /dev/null || echo read-only\n")
    assert run(pybuild, good)[:1] + run(pybuild, good, "--no-cache")[-1:] == ["in", "read-only"]
    for number, source in enumerate(("sel", "up", "up/etc", "absent", "sub/f")):
        bad = person.context(f"bad{number}", f"{recipe}{mount},target=/s,source={source} ls /s\n")
        assert f"Buildfile:3:1: error: the cache mount for /s has no directory /{source}" in pybuild.refused(bad)
    (name,) = caches(pybuild)
    assert name == "../../../../x"
    assert all(len(entry) == 16 for entry in os.listdir(person.home / "store/cachemounts"))


def test_a_link_that_comes_and_goes_is_never_followed(tmp_path: Path, pybuild: Pybuild) -> None:
    """One step exchanges a directory of the cache and a link to the root, while others mount from there."""
    gone = ("has no directory /sel", "cannot mount a cache on /s")  # it was not a directory, or was removed meanwhile
    flip = "echo flips; while [ ! -e /t/stop ]; do mkdir /t/sel; rmdir /t/sel; ln -s / /t/sel; rm /t/sel; done"
    recipe = (
        f"{BASE} AS flipper\nRUN --mount=type=cache,target=/t rm -f /t/stop; {flip}\n"
        + "".join(f"{BASE} AS s{n}\nRUN --mount=type=cache,id=/t,target=/s,source=sel ls -A /s\n" for n in range(12))
        + f"{BASE} AS stop\nRUN --mount=type=cache,target=/t touch /t/stop\n"
    )
    context = write_context(tmp_path / "c", recipe)
    with running(pybuild, "--target", "flipper", context) as build:
        build.wait_for("step_output", "flips")
        for number in range(12):
            done = pybuild.run("--progress=json", "--target", f"s{number}", context)
            said = "".join(outputs(done).values())
            assert said == "" and (done.status == 0 or any(words in done.err for words in gone)), done.err
        pybuild("--target", "stop", context)
        assert build.end().status == 0
    pybuild.assert_whole()


def test_two_steps_at_once_get_two_private_caches_but_one_shared_cache(
    tmp_path: Path, pybuild: Pybuild
) -> None:
    wait = "touch /t/first; echo here; while [ ! -e /sync/go ]; do sleep 0.05; done"
    recipe = (
        "".join(
            f"{BASE} AS {sharing}\nRUN --mount=type=cache,target=/sync --mount=type=cache,id={sharing},sharing={sharing},target=/t {wait}\n"
            f"{BASE} AS {sharing}-second\nRUN --mount=type=cache,id={sharing},sharing={sharing},target=/t ls /t\n"
            for sharing in ("shared", "private")
        )
        + f"{BASE} AS go\nRUN --mount=type=cache,target=/sync touch /sync/go\n{BASE} AS clean\nRUN --mount=type=cache,target=/sync rm /sync/go\n"
    )
    context = write_context(tmp_path / "c", recipe)
    for sharing, seen in (("shared", ["first"]), ("private", [])):
        with running(pybuild, "--target", sharing, context) as build:
            build.wait_for("step_output", "here")
            assert in_use(pybuild) == ["/sync", sharing]
            assert run(pybuild, context, "--target", f"{sharing}-second") == seen
            pybuild("--target", "go", "--no-cache", context)
            assert build.end().status == 0
        pybuild("--target", "clean", "--no-cache", context)
    assert caches(pybuild) == ["/sync", "private", "private", "shared"]


@pytest.mark.parametrize("builds", [1, 2])
def test_a_locked_cache_has_one_user_at_a_time(tmp_path: Path, pybuild: Pybuild, builds: int) -> None:
    """Steps of one build, and of two: each finds the directory without the mark of another, and each of them runs."""
    mount = "--mount=type=cache,sharing=locked,id=one,target=/a --mount=type=cache,sharing=locked,id=two,target=/b"
    alone = "mkdir /a/mark /b/mark && echo x >> /a/log && sleep 0.05 && rmdir /a/mark /b/mark"
    stages = "".join(f"{BASE} AS s{n}\nARG X\nRUN {mount} {alone}; echo {n} > /done\n" for n in range(3))
    copies = "".join(f"COPY --from=s{n} /done /d{n}\n" for n in range(3))
    last = f"{BASE}\n{copies}ARG X\nRUN --mount=type=cache,id=one,sharing=locked,target=/a wc -l < /a/log\n"
    context = write_context(tmp_path / "c", stages + last)
    others = [
        subprocess.Popen([*pybuild.command, "-q", "--build-arg", f"X={n}", context], env=pybuild.env(), stdin=subprocess.DEVNULL)
        for n in range(1, builds)
    ]  # fmt: skip
    pybuild("--build-arg", "X=0", context)
    assert [other.wait() for other in others] == [0] * len(others)
    assert run(pybuild, context, "--build-arg", "X=0", "--no-cache")[-1] == str(3 * builds + 3)
    assert caches(pybuild) == ["one", "two"]
    pybuild.assert_whole()


def test_a_killed_build_releases_its_cache(tmp_path: Path, pybuild: Pybuild) -> None:
    mount = "--mount=type=cache,sharing=locked,target=/t"
    context = write_context(
        tmp_path / "c", f"{BASE} AS slow\nRUN {mount} echo up && sleep 60\n{BASE}\nRUN {mount} echo got it\n"
    )
    with running(pybuild, "--target", "slow", context) as build:
        build.wait_for("step_output", "up")
    assert run(pybuild, context) == ["got it"]
    pybuild.assert_whole()
