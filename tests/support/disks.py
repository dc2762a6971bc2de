"""Small, full and read-only file systems for tests."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.people import Person


@contextmanager
def small_disk(place: Path, options: str) -> Iterator[Path]:
    """Mount a tmpfs on a new directory, with options such as size=8m or nr_inodes=50."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@dataclass(frozen=True)
class Mounts:
    """A mount namespace. It ends, with everything that is mounted in it, with the block that made it."""

    process: int

    @property
    def prefix(self) -> tuple[str, ...]:
        """What makes a command run inside."""
        return ("nsenter", f"--mount=/proc/{self.process}/ns/mnt")

    def run(self, *command: object) -> None:
        """Run a command inside that must succeed."""
        subprocess.run([*self.prefix, *map(str, command)], check=True, capture_output=True)

    def inside(self, path: Path) -> Path:
        """A path inside, as processes outside can name it."""
        return Path(f"/proc/{self.process}/root{path}")


@contextmanager
def own_mounts() -> Iterator[Mounts]:
    """A new mount namespace."""
    command = ["unshare", "--mount", "--propagation=private", "sh", "-c", "echo ready; read _"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        try:
            assert holder.stdout.readline() == b"ready\n"
            yield Mounts(holder.pid)
        finally:
            holder.stdin.close()


def mount_disk(mounts: Mounts, kind: str, place: Path, owner: Person, inodes: int = 4096) -> None:
    """Mount a kind of file system (tmpfs, ext4: 32 MB; btrfs: its smallest) on a new directory, for a user."""
    place.mkdir()
    if kind == "tmpfs":
        mounts.run("mount", "-t", "tmpfs", "-o", f"size=32m,nr_inodes={inodes}", "tmpfs", place)
    else:
        image = place.with_suffix(".img")
        with image.open("xb") as file:
            file.truncate((32 if kind == "ext4" else 128) << 20)
        make = ("mkfs.ext4", "-q", "-m", "0", "-N", inodes) if kind == "ext4" else ("mkfs.btrfs", "-q")
        mounts.run(*make, image)
        mounts.run("mount", "-o", "loop", image, place)
    mounts.run("chown", owner.uid, place)
    mounts.run("chmod", "0755", place)


def fill_bytes(place: Path) -> None:
    """Leave no free block in the file system of `place`."""
    with (place / "filler").open("xb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC
                size //= 2
    os.sync()  # ext4 promises blocks before it knows how many its own tables take
    with (place / "filler").open("ab", buffering=0) as file:
        while True:
            try:
                file.write(bytes(512))
            except OSError:
                return


def fill_inodes(place: Path) -> None:
    """Leave no free inode in the file system of `place`."""
    directory = place / "fillers"
    directory.mkdir()
    number = 0
    while True:
        try:
            (directory / str(number)).touch()
        except OSError as error:
            assert error.errno == errno.ENOSPC
            return
        number += 1
