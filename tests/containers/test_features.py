"""What else a RUN and the store can do, in podman's default container."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import BASE, Pybuild
from tests.support.containers import make_container
from tests.support.people import Person, forget

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECIPE = f"""\
FROM {BASE}
RUN echo a > /a && chown 5:6 /a && rm -r /home && mkdir -m 700 /p && echo s > /p/s
RUN --mount=type=cache,target=/c echo x >> /c/x && cat /c/x > /y
"""


@pytest.fixture
def person(base_archive: Path) -> Iterator[Person]:
    found = make_container("podman")
    found.take(base_archive)
    found.pybuild(PYBUILD_ISOLATION="container")("import", found.home / "base.tar")
    yield found
    forget(found)


def output(person: Person, lines: str, *arguments: object) -> str:
    """The output of a build of these lines on the base image, which succeeds."""
    context = person.context("context", f"FROM {BASE}\n{lines}\n")
    return person.pybuild(PYBUILD_ISOLATION="container")("--progress=plain", *arguments, context).err


def test_an_insecure_step_makes_mounts_and_cannot_uncover_any(person: Person) -> None:
    attempts = (
        "mkdir /m; mount -t tmpfs t /m && grep -q ' /m ' /proc/mounts && echo made; "
        "umount /proc; umount -l /proc; umount /proc/keys; umount /sys; mount -o remount,rw /proc; "
        "mount -o remount,rw,bind /proc; mount -t proc p /m; mount --bind /proc /m; mount -o remount,rw,bind /m; "
        "for f in /proc /m; do echo 1000 > $f/self/oom_score_adj; done; ls /m/self; cat /proc/keys; echo end"
    )
    said = output(person, f"RUN --security=insecure {attempts}", "--allow=security.insecure")
    assert re.findall(r"\| (made|end)$", said, flags=re.MULTILINE) == ["made", "end"]
    assert said.count("umount: can't unmount /") == 4
    assert "can't create /proc/self/oom_score_adj: Read-only file system" in said
    assert "ls: /m/self: No such file or directory" in said


def test_a_step_without_a_network_has_loopback_with_low_ports_and_raw_sockets(person: Person) -> None:
    said = output(person, "RUN --network=none ip addr; ping -c 1 127.0.0.1; httpd -p 127.0.0.1:80 && echo bound")
    assert "1 packets received" in said
    assert "| bound" in said
    assert re.findall(r"\| \d+: (\w+):", said) == ["lo"]


def test_files_of_a_failed_step_can_be_exported(person: Person) -> None:
    context = person.context("context", f"FROM {BASE}\nRUN echo text > /made; chown 7 /made; false\n")
    done = person.pybuild().run("--isolation=container", f"--on-fail=export=/made:{person.home}/out", context)
    assert done.status == 1
    assert "RUN exited with status 1" in done.err
    assert (person.home / "out").read_text() == "text\n"


def test_the_store_serves_builds_of_every_isolation(person: Person) -> None:
    """Trees have other owners, so each isolation has its own; the results are the same."""
    context = person.context("context", RECIPE)
    inside, machine = person.pybuild(), Pybuild(person.home / "store")
    digest = inside("--isolation=container", "-t", "t", context).out
    assert "0 damaged, 0 left over" in inside("fsck", "--deep").out
    assert "not compared" not in inside("fsck").err
    on_top = person.context("on-top", "FROM t\nRUN test $(stat -c %u:%g /a) = 5:6 && cat /p/s && test ! -e /home\n")
    for pybuild, isolation in ((machine, "full"), (inside, "auto"), (machine, "auto")):
        again = pybuild(f"--isolation={isolation}", "-t", "t", context)
        assert again.out == digest
        pybuild(f"--isolation={isolation}", "--no-cache", on_top)
    assert "0 damaged, 0 left over" in machine("fsck").out
    inside("reset", "--yes")
    assert not (person.home / "store" / "trees").exists()
