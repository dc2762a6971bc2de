"""A tree is compared with its table of contents: every kind of difference is found, and named with its path."""

# A lambda with several calls lists them in a tuple.
# mypy: disable-error-code="func-returns-value"

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from pybuild.store.formats.tar import CHAR, FIFO
from pybuild.store.formats.toc import Toc
from pybuild.store.layers.compare import tree_difference
from pybuild.store.layers.read import read_layer
from pybuild.store.layers.tree import make_tree
from pybuild.store.layers.view import View
from pybuild.store.system.directories import opened_directory
from tests.support.tars import directory, entry, hardlink, symlink, tar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OLD = 1_000_000_000
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
BELOW = tar(
    directory(b"etc/", mtime=OLD),
    entry(b"etc/below", data=b"below", mtime=OLD, uid=3),
    directory(b"hidden/", mtime=OLD),
    entry(b"hidden/x", mtime=OLD),
    entry(b"gone", mtime=OLD),
)
LAYER = tar(
    directory(b"./", mode=0o711, mtime=OLD),
    directory(b"etc/", mode=0o750, uid=7, gid=8, mtime=OLD),
    entry(b"etc/a", data=b"aaa", mode=0o4755, uid=1, gid=2, mtime=OLD),
    hardlink(b"etc/b", b"etc/a"),
    symlink(b"etc/link", b"a", uid=5, mtime=OLD),
    entry(b"etc/ping", data=b"x", mtime=OLD, xattrs=((b"security.capability", CAPABILITY),)),
    entry(b"etc/tty", CHAR, device=(5, 0), mode=0o666, mtime=OLD),
    entry(b"etc/fifo", FIFO, mode=0o600, mtime=OLD),
    directory(b"hidden/", mtime=OLD),
    entry(b"hidden/.wh..wh..opq"),
    entry(b".wh.gone"),
    entry(b"far", mtime=1 << 40),
)


class Place:
    """A tree on a layer, and its table of contents."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.below: View | None = View([Toc.of(read_layer(io.BytesIO(BELOW), View([])))])
        self.entries = read_layer(io.BytesIO(LAYER), self.below)
        root.mkdir()
        with opened_directory(str(root)) as fd:
            make_tree(self.entries, io.BytesIO(LAYER), fd)

    def difference(self, *, content: bool = False) -> str:
        with opened_directory(str(self.root)) as fd:
            return tree_difference(fd, self.entries, lambda: self.below, content=content)

    def __truediv__(self, name: str) -> Path:
        return self.root / name


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "tree")


def keeping_time(path: Path, action: Callable[[], object]) -> None:
    status = path.lstat()
    action()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def replace(place: Place, name: str, make: Callable[[Path], object]) -> None:
    """Put something else in the place of a file, without a trace in the time of its directory."""
    path = place / name

    def change() -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        make(path)

    keeping_time(path.parent, change)


def copied(path: Path, content: bytes, uid: int) -> None:
    path.write_bytes(content)
    path.chmod(0o644)
    os.chown(path, uid, 0)
    os.utime(path, (OLD, OLD))


def whiteout(path: Path) -> None:
    os.mknod(path, 0o020000, os.makedev(0, 0))


def unlinked(place: Place) -> None:
    """Turn a hard link into a copy, as cp -r does."""
    subprocess.run(["cp", "-p", "--remove-destination", place / "etc/a", f"{place.root}-copy"], check=True)
    keeping_time(place / "etc", lambda: os.rename(f"{place.root}-copy", place / "etc/b"))


def linked(place: Place) -> None:
    """Two files of the same metadata that became one."""
    replace(place, "etc/ping", lambda path: os.link(place / "etc/a", path))


def socket_at(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


HARM: dict[str, tuple[Callable[[Place], object], str]] = {
    "mode": (lambda p: (p / "etc/a").chmod(0o755), '"etc/a": mode 755, not 4755'),
    "mode of the root": (lambda p: p.root.chmod(0o755), "/: mode 755, not 711"),
    "owner": (lambda p: os.chown(p / "etc", 0, 0), '"etc": owner 0:0, not 7:8'),
    "owner of a link": (lambda p: os.lchown(p / "etc/link", 0, 0), '"etc/link": owner 0:0, not 5:0'),
    "time": (lambda p: os.utime(p / "etc/fifo", (OLD, OLD + 1)), f'"etc/fifo": time {OLD + 1}, not {OLD}'),
    "size": (
        lambda p: keeping_time(p / "etc/ping", lambda: os.truncate(p / "etc/ping", 2)),
        '"etc/ping": other capabilities; "etc/ping": size 2, not 1',  # the kernel drops them when the file is written
    ),
    "target": (
        lambda p: replace(p, "etc/link", lambda path: (path.symlink_to("b"), os.lchown(path, 5, 0), os.utime(path, (OLD, OLD), follow_symlinks=False))),
        '"etc/link": target "b", not "a"',
    ),
    "capabilities": (lambda p: os.removexattr(p / "etc/ping", "security.capability"), '"etc/ping": other capabilities'),
    "opaque mark lost": (lambda p: os.removexattr(p / "hidden", "user.overlay.opaque"), '"hidden": is not opaque'),
    "opaque mark added": (lambda p: os.setxattr(p / "etc", "user.overlay.opaque", b"y"), '"etc": hides "etc/below" of the layers below'),
    "redirected": (lambda p: os.setxattr(p / "etc", "user.overlay.redirect", b"/x"), '"etc": has the attribute user.overlay.redirect'),
    "hard link lost": (unlinked, '"etc/b": has other hard links'),
    "missing": (lambda p: replace(p, "etc/tty", lambda _: None), '"etc/tty": is missing'),
    "whiteout missing": (lambda p: replace(p, "gone", lambda _: None), '"gone": is missing'),
    "whiteout added": (lambda p: replace(p, "etc/below", whiteout), '"etc/below": removes an entry of the layers below'),
    "whiteout for a file": (lambda p: replace(p, "etc/tty", whiteout), '"etc/tty": is a whiteout, not a char'),
    "file for a whiteout": (lambda p: replace(p, "gone", lambda path: path.touch()), '"gone": is not a whiteout'),
    "type": (lambda p: replace(p, "etc/fifo", lambda path: path.touch()), '"etc/fifo": is not a fifo'),
    "device that is none": (lambda p: keeping_time(p / "etc/tty", lambda: (p / "etc/tty").write_bytes(b"x")), '"etc/tty": size 1, not 0'),
    "added file": (lambda p: replace(p, "etc/new", lambda path: path.write_bytes(b"x")), '"etc/new": is not in the table of contents'),
    "copied up and changed": (lambda p: replace(p, "etc/below", lambda path: copied(path, b"below", 0)), '"etc/below": owner 0:0, not 3:0'),
}  # fmt: skip


@pytest.mark.parametrize(("harm", "message"), HARM.values(), ids=HARM.keys())
def test_every_difference_is_found_and_named(place: Place, harm: Callable[[Place], object], message: str) -> None:
    assert place.difference(content=True) == ""
    harm(place)
    assert place.difference() == message


def test_one_file_under_two_names_that_should_be_two_files_is_found(place: Place) -> None:
    linked(place)
    assert '"etc/ping": has other hard links' in place.difference()


def test_content_is_compared_only_on_request(place: Place) -> None:
    path = place / "etc/a"
    keeping_time(path, lambda: path.open("r+b").write(b"b"))
    path.chmod(0o4755)
    assert place.difference() == ""
    assert place.difference(content=True) == '"etc/a": does not match its digest'


HARMLESS: dict[str, Callable[[Place], object]] = {
    "copied up and not changed": lambda p: replace(p, "etc/below", lambda path: copied(path, b"below", 3)),
    "whiteout for nothing": lambda p: replace(p, "etc/never", whiteout),
    "mount points": lambda p: (
        replace(p, "etc/file", lambda path: path.touch()),
        replace(p, "etc/dir", lambda path: path.mkdir()),
    ),
    "a socket": lambda p: replace(p, "etc/socket", socket_at),
}


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS.keys())
def test_what_a_run_leaves_besides_its_changes_is_no_difference(place: Place, change: Callable[[Place], object]) -> None:
    change(place)
    assert place.difference() == ""


def test_without_the_layers_below_only_what_is_listed_is_compared(place: Place) -> None:
    place.below = None
    replace(place, "etc/new", lambda path: path.write_bytes(b"x"))
    assert place.difference() == ""
    (place / "etc/a").chmod(0)
    assert place.difference() == '"etc/a": mode 0, not 4755'


def test_many_differences_are_one_short_line(place: Place) -> None:
    for name in ("a", "fifo", "tty", "ping"):
        (place / "etc" / name).chmod(0o1)
    found = place.difference()
    assert found.count("mode 1, not") == 3
    assert found.endswith("; and 1 more")
