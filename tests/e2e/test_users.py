"""A recipe gives the same image for every user and every id map."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.support.archive import read_archive
from tests.support.cli import BASE, CHECKOUT
from tests.support.people import forget, make_person
from tests.support.processes import descendants, mounts_below, running, survivors

if TYPE_CHECKING:
    from tests.support.people import Person

EPOCH = "1700000000"
EVERY_USER = ["root", "range", "single", "container", "nested"]
every_user = pytest.mark.parametrize("person", EVERY_USER, indirect=True)
# RUN steps that copy up, remove, replace and link files of lower layers. No chown and no rename of directories, which
# copies them and so needs chown.
RECIPE = f"""\
FROM {BASE} AS first
COPY --chown=123:456 file /d/owned
COPY --chown=app file /d/named
RUN chmod 600 /d/owned && cat /d/owned && chmod 755 /d && echo more >> /d/named
RUN rm -r /home && mkdir /home && cp /bin/busybox /x && ln /x /y && chmod 4755 /x && ln -s x /sym && mkfifo -m 640 /fifo
RUN touch -d @86400 /d/owned /fifo && chmod 700 /root && rm /sym
WORKDIR /made/by/workdir
FROM {BASE}
COPY --from=first / /all/
COPY --from=first --chown=9:9 /d/owned /d2/
RUN rm /all/y && touch -d @86400 /all/d/owned /all
"""
# An ordinary user without subordinate ids cannot chown in a RUN.
OWNERS = f"""\
FROM {BASE}
RUN mkdir /o && echo 1 > /o/f && chown -R app:staff /o && chmod 4710 /o/f && touch -d @86400 /o/f /o
USER app
RUN id -u > /tmp/uid && touch -d @86400 /tmp/uid
"""


def build(person: Person, name: str, recipe: str, *flags: str) -> str:
    """Build with clamped times; return the digest of the image."""
    context = person.context(name, recipe, file="content\n")
    out = f"type=oci,dest={person.home}/{name}.tar"
    return person.pybuild(SOURCE_DATE_EPOCH=EPOCH)("-t", name, "-o", out, *flags, context).out.strip()


@pytest.fixture(scope="module")
def by_root(tmp_path_factory: pytest.TempPathFactory, base_archive: object) -> dict[str, str]:
    """The digests of builds by root."""
    root = make_person("root")
    root.pybuild()("import", base_archive)
    found = {"plain": build(root, "plain", RECIPE), "owners": build(root, "owners", OWNERS)}
    found["demo"] = root.pybuild(SOURCE_DATE_EPOCH=EPOCH)(CHECKOUT / "fixtures/demo").out.strip()
    forget(root)
    return found


@every_user
def test_the_digest_is_the_same_as_for_root(person: Person, by_root: dict[str, str]) -> None:
    assert build(person, "plain", RECIPE) == by_root["plain"]
    assert person.pybuild(SOURCE_DATE_EPOCH=EPOCH)(CHECKOUT / "fixtures/demo").out.strip() == by_root["demo"]
    person.pybuild().assert_whole()


@pytest.mark.parametrize("person", ["range", "container"], indirect=True)
def test_with_enough_ids_owners_are_the_same_as_for_root(person: Person, by_root: dict[str, str]) -> None:
    assert build(person, "owners", OWNERS) == by_root["owners"]


@pytest.mark.parametrize("person", ["single", "nested"], indirect=True)
def test_with_one_id_owners_in_lower_layers_are_preserved(person: Person) -> None:
    build(person, "kept", f"FROM {BASE}\nCOPY --chown=7:8 file /d/f\nRUN echo more >> /d/f; mkdir /d/new; chmod 700 /d\n")
    (layer,) = read_archive(person.home / "kept.tar").layers[2:]
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        owners = {member.name.strip("/"): (member.uid, member.gid) for member in tar}
    assert owners == {"d": (7, 8), "d/f": (7, 8), "d/new": (0, 0)}


@pytest.mark.parametrize("person", ["single", "nested"], indirect=True)
def test_with_one_id_a_failing_chown_is_explained(person: Person) -> None:
    context = person.context("chown", f"FROM {BASE}\nRUN touch /f && chown app /f\n")
    message = person.pybuild().refused(context)
    assert "chown: /f: Invalid argument" in message
    assert "RUN exited with status 1" in message
    assert "hint: a RUN has one user and one group here, and chown to another one fails" in message
    assert message.rstrip().endswith("see pybuild doctor")


@pytest.mark.parametrize("person", ["single", "nested"], indirect=True)
def test_with_one_id_another_user_is_refused_before_the_command_runs(person: Person) -> None:
    context = person.context("user", f"FROM {BASE}\nUSER app\nRUN echo ran\n")
    message = person.pybuild().refused(context)
    assert "Buildfile:3:1: error: USER app needs user 1000 and group 1000" in message
    assert "| ran" not in message
    assert "see pybuild doctor" in message


def test_reset_removes_files_of_subordinate_ids(person: Person) -> None:
    recipe = f"FROM {BASE}\nRUN mkdir -p /a/b && touch /a/b/f && chmod 0 /a/b && (chown -R 5:5 /a || true)\n"
    person.pybuild()("-t", "t", person.context("c", recipe))
    person.pybuild()("rmi", "t")
    person.pybuild().assert_whole()
    person.pybuild()("reset")
    assert not (person.home / "store").exists()


SLEEPER = f"""\
FROM {BASE}
RUN mkdir -p /q/r && (chown -R 5:5 /q || true) && chmod 0 /q; \\
    (setsid sh -c 'trap "" TERM INT HUP; while :; do sleep 31337; done' &) ; trap "" TERM; echo READY; sleep 31337; sleep 1
"""


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_signal_leaves_nothing_of_a_step(person: Person, number: int, status: int) -> None:
    with running(person.pybuild(), person.context("c", SLEEPER)) as build:
        build.wait_for("step_output", "READY")
        seen = descendants(build.pid)
        assert sum("sleep 31337" in process.command for process in seen) >= 2
        os.kill(build.pid, number)
        assert build.end().status == status
    assert survivors(seen) == []
    assert mounts_below(person.home) == []
    person.pybuild().run("fsck")  # the next process that opens the store removes it
    person.pybuild().assert_whole()


def test_the_second_signal_ends_pybuild_at_once(person: Person) -> None:
    with running(person.pybuild(), person.context("c", SLEEPER)) as build:
        build.wait_for("step_output", "READY")
        seen = descendants(build.pid)
        os.kill(build.pid, signal.SIGINT)
        os.kill(build.pid, signal.SIGINT)
        assert build.end().status == 130
    assert survivors(seen) == []
    assert mounts_below(person.home) == []
    person.pybuild().run("fsck")
    person.pybuild().assert_whole()


def test_a_store_of_another_user_is_refused(person: Person) -> None:
    os.chown(person.home / "store", 4242, 4242)
    done = subprocess.run(
        [*person.pybuild().command, "images"], env=person.pybuild().env(), capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "belongs to user 4242" in done.stderr or "Permission denied" in done.stderr
