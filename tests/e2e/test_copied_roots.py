"""RUN in copies of its files: --snapshots=copy. The results are those of overlays."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import BASE, SCRIPT, Pybuild
from tests.support.disks import mount_disk, own_mounts

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.people import Person

NOTE = "note: RUN steps work in copies of their files, as --snapshots=copy asks for\n"
EPOCH = "1000000000"
RECIPE = f"""\
FROM {BASE} AS made
COPY --chmod=640 file /d/file
RUN ln /d/file /d/same && rm -r /home && mkdir /home && touch -d @5 /home/old && mkfifo /p
RUN chmod 600 /d/same && ls -l /d
COPY file /d/
RUN --mount=type=cache,target=/c/sub --mount=type=tmpfs,target=/c/sub/t/u mkdir -p /c/sub/x /new/x && echo a > /new/x/y \\
    && rm /d/same && mv /new /moved && truncate -s 3000000 /hole && touch /d/gone
RUN rm -r /d && mkdir /d && ln -s d /l && rm /p && touch /moved/z && chmod 700 /tmp
FROM {BASE}
RUN --mount=type=bind,from=made,source=/moved,target=/m --mount=type=bind,from=made,source=/d/../moved/x/y,target=/one,rw \\
    --mount=type=secret,id=token cat /m/x/y /run/secrets/token > /out && echo lost > /one && test $(cat /m/x/y) = a
RUN --mount=type=bind,target=/ctx,rw echo lost > /ctx/file && touch -d @9 /ctx && ls /ctx > /listed
COPY --from=made / /all
RUN rm /all/etc/passwd && cat /all/moved/x/y
"""


def build(pybuild: Pybuild, context: Path, *arguments: object, kind: str = "copy") -> tuple[str, str]:
    done = pybuild(f"--snapshots={kind}", "--no-cache", "--progress=plain", *arguments, context, SOURCE_DATE_EPOCH=EPOCH)
    return done.out, done.err


def test_the_image_is_that_of_overlays(person: Person, base_archive: Path) -> None:
    pybuild = person.pybuild(token="hidden")
    context = person.context("context", RECIPE, file="text\n")
    images = {}
    for kind in ("copy", "overlay"):
        images[kind], said = build(pybuild, context, "--secret=id=token,env=token", kind=kind)
        assert said.count(NOTE) == (kind == "copy")
        assert ("runs again, because it changed a file with 2 names: /d/file\n" in said) == (kind == "copy")
    assert images["copy"] == images["overlay"]
    pybuild.assert_whole()
    assert os.listdir(pybuild.root / "ingest") == []
    # Without trees the steps of the first build are still found.
    assert pybuild("--require-cached", "--secret=id=token,env=token", context, SOURCE_DATE_EPOCH=EPOCH).out == images["copy"]


@pytest.mark.parametrize("person", ["root", "single"], indirect=True)
def test_the_image_is_the_same_on_btrfs(person: Person) -> None:
    """It lists an open directory as it was when it was opened, and shares the blocks of copies."""
    context = person.context("context", RECIPE, file="text\n")
    with own_mounts() as mounts:
        place = person.home / "disk"
        mount_disk(mounts, "btrfs", place, person)
        mounts.run("cp", "-a", person.home / "store", place / "store")
        pybuild = Pybuild(place / "store", {"token": "hidden"}, (*mounts.prefix, *person.prefix, SCRIPT))
        copied, _ = build(pybuild, context, "--secret=id=token,env=token")
        assert " 0 damaged, 0 left over" in pybuild("fsck", "--deep").out
    elsewhere = person.pybuild(token="hidden")
    assert build(elsewhere, context, "--secret=id=token,env=token", kind="overlay")[0] == copied


def test_a_renamed_name_is_a_file_of_its_own(pybuild: Pybuild, tmp_path: Path) -> None:
    """An overlay separates a name when it is renamed, so what is written through another name does not reach it."""
    recipe = f"FROM {BASE}\nRUN mkdir /d /e && for x in d e; do echo 1 > $x/a && ln $x/a $x/b; done\n"
    recipe += "RUN mv /d/a /d/new && echo more >> /d/b\nRUN mv /e/a /e/x && mv /e/b /e/y && echo more >> /e/y && cat /d/new /e/x\n"
    (tmp_path / "Buildfile").write_text(recipe)
    images = {kind: build(pybuild, tmp_path, kind=kind)[0] for kind in ("copy", "overlay")}
    assert images["copy"] == images["overlay"]


def test_a_stage_keeps_its_directory_from_step_to_step(pybuild: Pybuild, tmp_path: Path) -> None:
    """Each RUN prints the inode of a file of the base. A second stage on the same layers has a directory of its own."""
    show = "stat -c inode=%i /etc/group"
    recipe = f"FROM {BASE} AS a\nRUN {show}\nCOPY f /f\nWORKDIR /w\nRUN {show}; cat /f; touch x\nRUN {show}; ls x\n"
    (tmp_path / "Buildfile").write_text(f"{recipe}FROM a\nRUN {show}\nFROM a AS other\nRUN {show}; false || true\n")
    (tmp_path / "f").write_text("text\n")
    _, said = build(pybuild, tmp_path)
    assert len(set(re.findall(r"\| inode=(\d+)", said))) == 1
    (tmp_path / "Buildfile").write_text(f"{recipe}FROM a AS b\nRUN {show}\nFROM a\nCOPY --from=b /f /g\nRUN {show}\n")
    _, said = build(pybuild, tmp_path)
    assert len(set(re.findall(r"\| inode=(\d+)", said))) == 2


def test_a_step_that_fails_leaves_nothing(pybuild: Pybuild, tmp_path: Path) -> None:
    recipe = f"FROM {BASE}\nRUN echo one > /a\nRUN rm -r /bin/ls /etc; echo two > /b; false\n"
    (tmp_path / "Buildfile").write_text(recipe)
    failed = pybuild.run("--snapshots=copy", f"--on-fail=export=/b:{tmp_path}/out", tmp_path, SOURCE_DATE_EPOCH=EPOCH)
    assert failed.status == 1
    assert "RUN exited with status 1" in failed.err
    assert (tmp_path / "out").read_text() == "two\n"
    assert os.listdir(pybuild.root / "ingest") == []
    pybuild.assert_whole()
    (tmp_path / "Buildfile").write_text(f"FROM {BASE}\nRUN echo one > /a\nRUN cat /a; ls /bin/ls /etc/group\n")
    done = pybuild("--snapshots=copy", "--progress=json", tmp_path, SOURCE_DATE_EPOCH=EPOCH)
    assert done.finished() == {"RUN echo one > /a": True, "RUN cat /a; ls /bin/ls /etc/group": False}


def test_what_a_killed_build_leaves_the_next_one_removes(pybuild: Pybuild, tmp_path: Path) -> None:
    (tmp_path / "Buildfile").write_text(f"FROM {BASE}\nRUN echo one > /a\nRUN echo here; sleep 1000\n")
    command = [*pybuild.command, "--snapshots=copy", "--progress=plain", str(tmp_path)]
    with subprocess.Popen(command, env=pybuild.env(), stderr=subprocess.PIPE) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.endswith(b"| here\n"):
                break
        running.send_signal(signal.SIGKILL)
    assert os.listdir(pybuild.root / "ingest") != []
    (tmp_path / "Buildfile").write_text(f"FROM {BASE}\nRUN echo one > /a\nRUN ls -l /a\n")
    assert pybuild("--snapshots=copy", "--progress=json", tmp_path).finished() == {
        "RUN echo one > /a": True, "RUN ls -l /a": False
    }  # fmt: skip
    assert os.listdir(pybuild.root / "ingest") == []
    pybuild.assert_whole()


def test_a_malformed_value_is_refused(pybuild: Pybuild, tmp_path: Path) -> None:
    for arguments, environment in (["--snapshots=vfs"], {}), ([], {"PYBUILD_SNAPSHOTS": "vfs"}):
        done = pybuild.with_environment(environment).run(*arguments, tmp_path)
        assert done.status == 2
        assert "--snapshots vfs: expected one of auto, overlay, copy" in done.err
    done = pybuild.run("doctor", PYBUILD_SNAPSHOTS="vfs")
    assert done.status == 2


@pytest.mark.parametrize("kind", ["auto", "overlay"])
def test_overlays_are_used_where_they_work(pybuild: Pybuild, tmp_path: Path, kind: str) -> None:
    (tmp_path / "Buildfile").write_text(f"FROM {BASE}\nRUN grep ' / overlay ' /proc/mounts\n")
    _, said = build(pybuild, tmp_path, kind=kind)
    assert "| overlay / overlay " in said
    assert "copies" not in said
