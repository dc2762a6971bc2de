"""A store on a full or read-only file system: reading works, gc and rmi free space, nothing is damaged."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import BASE, SCRIPT, Pybuild
from tests.support.disks import Mounts, fill_bytes, fill_inodes, mount_disk, own_mounts
from tests.support.people import as_user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.people import Person

RECIPE = f"FROM {BASE}\nRUN echo built > /f\nCOPY x /x\n"
FULL = {"bytes": fill_bytes, "inodes": fill_inodes}


@dataclass(frozen=True)
class Disk:
    """A small file system, with a store that has the base image and an image `app:1` of two steps."""

    mounts: Mounts
    place: Path
    pybuild: Pybuild
    context: Path
    elsewhere: Path  # a directory of the same user on another file system

    @property
    def inside(self) -> Path:
        """The file system's root, as this process can name it."""
        return self.mounts.inside(self.place)

    def assert_whole(self) -> None:
        report = self.pybuild.run("fsck")
        assert report.status == 0, report.out + report.err
        assert "0 damaged" in report.out
        assert os.listdir(self.inside / "store/ingest") == []

    def room(self) -> int:
        """The free bytes."""
        status = os.statvfs(self.inside)
        return status.f_bavail * status.f_frsize


@pytest.fixture
def disk(request: pytest.FixtureRequest, person: Person) -> Iterator[Disk]:
    """A disk of the kind that the parameter names."""
    with own_mounts() as mounts:
        place = person.home / "disk"
        mount_disk(mounts, request.param, place, person)
        mounts.run("cp", "-a", person.home / "store", place / "store")
        command = (*mounts.prefix, *person.prefix, SCRIPT)
        pybuild = Pybuild(place / "store", {}, command)
        context = person.context("context", RECIPE, x="hello")
        pybuild("--network=none", "-q", "-t", "app:1", context)
        elsewhere = person.home / "elsewhere"
        elsewhere.mkdir()
        os.chown(elsewhere, person.uid, -1)
        yield Disk(mounts, place, pybuild, context, elsewhere)


def assert_reading_works(disk: Disk) -> None:
    """All that only reads: it succeeds, and no display shows an error."""
    pybuild, out = disk.pybuild, disk.elsewhere
    digest = pybuild("--network=none", "-q", disk.context).out
    assert "app:1" in pybuild("images").out
    assert "total" in pybuild("df").out
    assert digest.strip() in pybuild("inspect", "app:1").out
    assert "COPY x /x" in pybuild("history", "--files", "app:1").out
    assert "A /f" in pybuild("diff", BASE, "app:1").out
    assert "done" in pybuild("logs", "--list").out
    assert "RUN echo built" in pybuild("why").out
    assert "0 damaged" in pybuild("fsck").out
    pybuild("doctor")
    pybuild("build", "--check", disk.context)
    assert "2 files" in pybuild("context", "ls", disk.context).out
    pybuild("gc", "--dry-run")
    for kind in ("oci", "docker", "tar"):
        pybuild("export", "app:1", "-o", f"type={kind},dest={out}/{kind}.tar")
        assert (out / f"{kind}.tar").stat().st_size > 1_000_000
    results = (f"--iidfile={out}/iid", "-t", "app:1", "-o", f"type=oci,dest={out}/again.tar")
    pybuild("build", "--network=none", "-q", *results, disk.context)
    assert (out / "iid").read_text() in pybuild("inspect", "app:1").out
    assert (out / "again.tar").read_bytes() == (out / "oci.tar").read_bytes()


def assert_writing_is_refused(disk: Disk, reason: str) -> None:
    """What has to write ends with one error that names the store and the reason, before anything runs."""
    for command in (["tag", "app:1", "app:2"], ["--network=none", "-q", "-t", "app:2", disk.context], ["import", disk.elsewhere / "oci.tar"]):
        error = disk.pybuild.refused(*command)
        assert re.search(rf"^error: .*{disk.place}/store.*{reason}", error, re.M), error
        assert len([line for line in error.splitlines() if "error:" in line]) == 1
    (disk.context / "x").write_text("changed")
    error = disk.pybuild.refused("--network=none", "--progress=plain", disk.context)
    assert re.search(rf"Buildfile:3:1: error: this step is not cached.*{disk.place}/store.*{reason}", error), error
    (disk.context / "x").write_text("hello")
    os.utime(disk.context / "x", (1_600_000_000, 1_600_000_000))


@pytest.mark.parametrize(
    ("person", "disk", "resource"),
    [("range", "ext4", "bytes"), ("root", "tmpfs", "inodes")],
    indirect=["person", "disk"],
)
def test_reading_works_on_a_full_disk_and_gc_frees_space(disk: Disk, resource: str) -> None:
    FULL[resource](disk.inside)
    assert_reading_works(disk)
    assert_writing_is_refused(disk, "No space left on device")
    room = disk.room()
    assert "untagged app:1" in disk.pybuild("rmi", "app:1").out
    assert "app:1" not in disk.pybuild("images").out
    assert "freed" in disk.pybuild("gc", "--all").out
    disk.assert_whole()
    assert disk.room() > room or resource == "inodes"
    disk.mounts.run("rm", "-r", disk.place / ("filler" if resource == "bytes" else "fillers"))
    disk.pybuild("--network=none", "-q", disk.context)
    disk.assert_whole()


@pytest.mark.parametrize(
    ("person", "disk", "resource"), [("range", "ext4", "bytes"), ("root", "tmpfs", "inodes")], indirect=["person", "disk"]
)
def test_a_store_on_a_full_disk_can_be_deleted(disk: Disk, resource: str) -> None:
    FULL[resource](disk.inside)
    disk.pybuild("reset")
    assert not (disk.inside / "store").exists()


@pytest.mark.parametrize("disk", ["ext4"], indirect=True)
@pytest.mark.parametrize("person", ["root"], indirect=True)
@pytest.mark.parametrize("call", ["unlink,unlinkat", "pwrite64", "rename", "ftruncate"])
def test_gc_on_a_full_disk_can_be_killed(disk: Disk, call: str) -> None:
    """After each kill the store is whole, and the next gc goes on."""
    fill_bytes(disk.inside)
    disk.pybuild("rmi", "app:1")
    for number in (1, 3, 9, 27):
        trace = ["strace", "-f", "-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={number}"]
        killed = subprocess.run(
            [*disk.mounts.prefix, *trace, SCRIPT, "gc", "--all"], env=disk.pybuild.env(), capture_output=True
        )
        report = disk.pybuild.run("fsck")
        assert "0 damaged" in report.out, report.out + report.err
        if not killed.returncode:
            break
    disk.pybuild("gc", "--all")
    disk.assert_whole()
    assert disk.room() > 0


@pytest.mark.parametrize("disk", ["tmpfs"], indirect=True)
@pytest.mark.parametrize("person", ["root", "range"], indirect=True)
def test_reading_works_on_a_read_only_file_system(disk: Disk) -> None:
    disk.mounts.run("mount", "-o", "remount,ro", disk.place)
    assert_reading_works(disk)
    assert_writing_is_refused(disk, "Read-only file system")
    for command in (["rmi", "app:1"], ["gc"], ["gc", "--all"]):
        assert "Read-only file system" in disk.pybuild.refused(*command)


@pytest.mark.parametrize("disk", ["ext4"], indirect=True)
@pytest.mark.parametrize("person", ["range"], indirect=True)
def test_reading_works_without_permission_to_write(disk: Disk) -> None:
    disk.mounts.run("find", disk.place / "store", "-maxdepth", "1", "-exec", "chmod", "a-w", "{}", "+")
    assert_reading_works(disk)
    assert_writing_is_refused(disk, "Permission denied")
    assert "Permission denied" in disk.pybuild.refused("gc")


@pytest.mark.parametrize("disk", ["ext4"], indirect=True)
@pytest.mark.parametrize("person", ["root"], indirect=True)
def test_others_can_read_a_store_of_root_that_root_opened_to_them(disk: Disk) -> None:
    disk.mounts.run("chmod", "-R", "a+rX", disk.place / "store")
    user = Pybuild(disk.pybuild.root, {}, (*disk.mounts.prefix, *as_user("nobody"), SCRIPT))
    assert "app:1" in user("images").out
    assert "belongs to user 0" in user.refused("tag", "app:1", "app:2")


@pytest.mark.parametrize("disk", ["ext4"], indirect=True)
@pytest.mark.parametrize("person", ["root", "range"], indirect=True)
@pytest.mark.parametrize("snapshots", ["overlay", "copy"])
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("RUN head -c 40000000 /dev/zero > /large", "RUN exited with status 1"),
        ("RUN head -c 14000000 /dev/urandom > /large; true", ".*{place}.*No space left on device"),
        ("RUN echo > /small", ".*{place}.*No space left on device"),
    ],
    ids=["the files of a step", "their layer", "the root of a step"],
)
def test_a_build_without_room_says_so_and_leaves_nothing(disk: Disk, snapshots: str, line: str, said: str) -> None:
    """The disk has 32 MB. The third step stands on a file of 9 MB, and there is room for 4 MB when it begins."""
    (disk.context / "large").write_bytes(os.urandom(9_000_000))
    small = line == "RUN echo > /small"
    (disk.context / "Buildfile").write_text(f"FROM {BASE}\nCOPY {'large' if small else 'x'} /\n")
    disk.pybuild("--network=none", "-q", "-t", "copied", disk.context)
    if small:
        with (disk.inside / "filler").open("xb") as file:
            os.posix_fallocate(file.fileno(), 0, disk.room() - (4 << 20))
    before = disk.room()
    with (disk.context / "Buildfile").open("a") as recipe:
        recipe.write(line)
    done = disk.pybuild.run("--network=none", f"--snapshots={snapshots}", "-q", disk.context)
    assert done.status == 1
    assert re.search(rf"Buildfile:3:1: error: {said.format(place=disk.place)}", done.err), done.err
    disk.assert_whole()
    disk.pybuild("gc")
    assert disk.room() > before - (1 << 20)
    disk.pybuild("--network=none", "-q", "-f", "-", disk.context, stdin=f"FROM {BASE}\nRUN echo again > /f\n".encode())
    disk.assert_whole()
