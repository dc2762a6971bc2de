"""The mount points that an image lacks."""

from __future__ import annotations

import pytest

from pybuild.builder.errors import SandboxError
from pybuild.builder.steps.mount_points import scaffold_for
from pybuild.builder.steps.mounts import MountPoint
from pybuild.store.formats.toc import Entry, Kind, Toc, encode
from pybuild.store.layers.view import View

DIRECTORIES = [Entry(name, Kind.DIRECTORY, 0o755) for name in (b"dev", b"etc", b"proc", b"sys")]
FILES = [Entry(b"etc/hosts", Kind.FILE, 0o644), Entry(b"etc/resolv.conf", Kind.FILE, 0o644)]


def image(*rows: Entry) -> View:
    return View([Toc.of(sorted(rows, key=lambda row: row.path.split(b"/")))])


def names(view: View) -> list[str]:
    """The created names without the root; directories end in a slash."""
    return [
        row.path.decode() + ("/" if row.kind is Kind.DIRECTORY else "")
        for row in scaffold_for(view).entries
        if row.path
    ]


def link(path: bytes, target: bytes) -> Entry:
    return Entry(path, Kind.SYMLINK, 0o777, link=target)


@pytest.mark.parametrize(
    ("rows", "made"),
    [
        pytest.param([], ["dev/", "etc/", "etc/hosts", "etc/resolv.conf", "proc/", "sys/"], id="an empty image"),
        pytest.param([*DIRECTORIES, *FILES], [], id="an image that has everything"),
        pytest.param(DIRECTORIES, ["etc/", "etc/hosts", "etc/resolv.conf"], id="no files"),
        pytest.param(FILES[:0] + DIRECTORIES[:2] + FILES, ["proc/", "sys/"], id="no proc and sys"),
        pytest.param(
            [*DIRECTORIES, FILES[0], link(b"etc/resolv.conf", b"../run/net/resolv.conf")],
            ["run/", "run/net/", "run/net/resolv.conf"],
            id="a link to a missing file",
        ),
        pytest.param(
            [DIRECTORIES[0], link(b"etc", b"/usr/etc"), *DIRECTORIES[2:]],
            ["usr/", "usr/etc/", "usr/etc/hosts", "usr/etc/resolv.conf"],
            id="etc itself is a link",
        ),
    ],
)
def test_only_what_the_image_lacks_is_made(rows: list[Entry], made: list[str]) -> None:
    assert names(image(*rows)) == made


@pytest.mark.parametrize(
    ("target", "bound"),
    [
        pytest.param(b"/run/resolv.conf", "/run/resolv.conf", id="absolute"),
        pytest.param(b"../../../../run/r", "/run/r", id="out of the root"),
        pytest.param(b"hosts", "/etc/hosts", id="another file of the image"),
    ],
)
def test_files_are_mounted_where_the_image_s_links_lead(target: bytes, bound: str) -> None:
    assert scaffold_for(image(*DIRECTORIES, FILES[0], link(b"etc/resolv.conf", target))).resolv_conf == bound


def test_parents_look_as_the_image_has_them() -> None:
    attribute = ((b"user.a", b"b"),)
    root = Entry(b"", Kind.DIRECTORY, 0o711, 1, 2, mtime=50)
    etc = Entry(b"etc", Kind.DIRECTORY, 0o2750, 3, 4, mtime=60, xattrs=attribute, opaque=True, offset=512)
    found = {row.path: row for row in scaffold_for(image(root, etc)).entries}
    assert found[b""] == root
    assert found[b"etc"] == etc._replace(opaque=False, offset=-1)


def test_mount_points_have_the_time_of_the_root() -> None:
    found = {row.path: row for row in scaffold_for(image(Entry(b"", Kind.DIRECTORY, 0o755, mtime=50))).entries}
    assert {found[name].mtime for name in (b"proc", b"etc", b"etc/hosts")} == {50}


@pytest.mark.parametrize("name", [b"proc", b"sys", b"dev"])
@pytest.mark.parametrize("kind", [Kind.FILE, Kind.SYMLINK, Kind.FIFO])
def test_a_non_directory_at_a_mount_point_is_an_error(name: bytes, kind: Kind) -> None:
    target = b"/etc" if kind is Kind.SYMLINK else b""
    with pytest.raises(SandboxError, match=f"non-directory at /{name.decode()}"):
        scaffold_for(image(Entry(name, kind, 0o644, link=target)))


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([Entry(b"etc", Kind.FILE, 0o644)], id="etc is a file"),
        pytest.param([link(b"etc", b"x"), Entry(b"x", Kind.FILE, 0o644)], id="etc leads to a file"),
    ],
)
def test_a_non_directory_above_a_mount_point_is_an_error(rows: list[Entry]) -> None:
    with pytest.raises(SandboxError, match="non-directory at /"):
        scaffold_for(image(*rows))


def test_a_loop_of_links_is_an_error() -> None:
    with pytest.raises(SandboxError, match="too many levels of symbolic links"):
        scaffold_for(image(link(b"etc", b"etc")))


def test_a_directory_at_the_mount_point_of_a_file_is_an_error() -> None:
    rows = [*DIRECTORIES, FILES[0], Entry(b"etc/resolv.conf", Kind.DIRECTORY, 0o755)]
    with pytest.raises(SandboxError, match=r"/etc/resolv\.conf of the image is a directory"):
        scaffold_for(image(*rows))


# The mounts of a step


def mounted(view: View, *targets: str, directory: bool = True) -> tuple[list[str], tuple[str, ...]]:
    """The rows created besides the usual ones, and where the mounts go."""
    found = scaffold_for(view, [MountPoint(target, directory) for target in targets])
    usual = {row.path for row in scaffold_for(view).entries}
    return [row.path.decode() for row in found.entries if row.path not in usual], found.mounts


FULL = [*DIRECTORIES, *FILES]


@pytest.mark.parametrize(
    ("rows", "targets", "made", "where"),
    [
        pytest.param([], ("/a/b",), ["a", "a/b"], ("/a/b",), id="E28-a mount point and its parents"),
        pytest.param([], ("/etc",), [], ("/etc",), id="E28-an existing mount point is not made"),
        pytest.param([], ("/a/b", "/a"), ["a"], ("/a/b", "/a"), id="E28-a mount in a mount is made there"),
        pytest.param([], ("/dev/x", "/proc/y"), [], ("/dev/x", "/proc/y"), id="E28-in filesystems of the kernel"),
        pytest.param([link(b"l", b"etc")], ("/l/x",), ["etc", "etc/x"], ("/etc/x",), id="a link of the image"),
        pytest.param([link(b"l", b"a")], ("/l/x/y", "/a/x"), ["a", "a/x"], ("/a/x/y", "/a/x"), id="a link to a mount"),
        pytest.param(
            [Entry(b"m", Kind.DIRECTORY, 0o755), link(b"m/l", b"/etc")], ("/m", "/m/l/x"), [], ("/m", "/m/l/x"),
            id="a link that a mount covers",
        ),
    ],
)  # fmt: skip
def test_mount_points_are_made_where_the_image_lacks_them(
    rows: list[Entry], targets: tuple[str, ...], made: list[str], where: tuple[str, ...]
) -> None:
    assert mounted(image(*FULL, *rows), *targets) == (made, where)


def test_the_mount_point_of_a_file_is_a_file() -> None:
    found = scaffold_for(image(*FULL), [MountPoint("/a/f", directory=False)])
    assert {row.path: row.kind for row in found.entries if row.path} == {b"a": Kind.DIRECTORY, b"a/f": Kind.FILE}


@pytest.mark.parametrize(
    ("target", "directory", "message"),
    [
        ("/etc/hosts", True, "non-directory at /etc/hosts"),
        ("/etc", False, "a directory at /etc"),
        ("/etc/hosts/x", True, "non-directory at /etc/hosts"),
        ("/loop", True, "too many levels of symbolic links"),
        ("/up", True, "leads to the root"),
    ],
)
def test_a_mount_point_of_the_wrong_kind_is_an_error(target: str, directory: bool, message: str) -> None:
    view = image(*FULL, link(b"loop", b"loop"), link(b"up", b"../.."))
    with pytest.raises(SandboxError, match=message):
        mounted(view, target, directory=directory)


def test_the_rows_are_a_table_of_contents() -> None:
    assert encode(scaffold_for(image(link(b"etc", b"usr/etc"), Entry(b"usr-x", Kind.FILE))).entries)
