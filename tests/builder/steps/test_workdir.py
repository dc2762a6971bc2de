"""The directories that WORKDIR makes."""

from __future__ import annotations

import pytest

from pybuild.builder.errors import BuildError
from pybuild.builder.steps.workdir import missing_directories
from pybuild.store.errors import UnsafePath
from pybuild.store.formats.toc import Entry, Kind, Toc, encode
from pybuild.store.layers.view import LinkLoop, View

IMAGE = View(
    [
        Toc.of(
            [
                Entry(b"abs", Kind.SYMLINK, 0o777, link=b"/srv"),
                Entry(b"file", Kind.FILE, 0o644),
                Entry(b"gone", Kind.SYMLINK, 0o777, link=b"nowhere/deep"),
                Entry(b"loop", Kind.SYMLINK, 0o777, link=b"loop"),
                Entry(b"out", Kind.SYMLINK, 0o777, link=b"../../../srv"),
                Entry(b"srv", Kind.DIRECTORY, 0o700, 5, 6, mtime=77),
                Entry(b"srv/app", Kind.DIRECTORY, 0o750, 7, 8, mtime=78, opaque=True),
                Entry(b"tofile", Kind.SYMLINK, 0o777, link=b"file"),
            ]
        )
    ]
)


def made(path: str) -> list[str]:
    """The rows of a WORKDIR: path, and its mode and owner."""
    return [
        f"{entry.path.decode()} {entry.mode:o} {entry.uid}:{entry.gid}"
        for entry in missing_directories(IMAGE, path, 1000, 1001, 99)
    ]


@pytest.mark.parametrize(
    ("path", "rows"),
    [
        pytest.param("/new", ["new 755 1000:1001"], id="one"),
        pytest.param("/a/b/c", [f"{p} 755 1000:1001" for p in ("a", "a/b", "a/b/c")], id="with its parents"),
        pytest.param(
            "/srv/app/x", ["srv 700 5:6", "srv/app 750 7:8", "srv/app/x 755 1000:1001"], id="below existing ones, which stay unchanged"
        ),
        pytest.param("/srv/app", [], id="one that exists"),
        pytest.param("/", [], id="the root"),
        pytest.param("/abs/x", ["srv 700 5:6", "srv/x 755 1000:1001"], id="through an absolute link"),
        pytest.param("/out/x", ["srv 700 5:6", "srv/x 755 1000:1001"], id="through a link that would lead out"),
        pytest.param("/gone", ["nowhere 755 1000:1001", "nowhere/deep 755 1000:1001"], id="at the target of a link"),
    ],
)  # fmt: skip
def test_missing_directories_are_made(path: str, rows: list[str]) -> None:
    assert made(path) == rows


def test_new_directories_have_the_time_of_the_step_and_old_ones_keep_theirs() -> None:
    assert [entry.mtime for entry in missing_directories(IMAGE, "/srv/app/x", 0, 0, 99)] == [77, 78, 99]


def test_an_opaque_parent_is_not_made_opaque_again() -> None:
    assert not any(entry.opaque for entry in missing_directories(IMAGE, "/srv/app/x", 0, 0, 99))


@pytest.mark.parametrize("path", ["/file", "/file/x", "/tofile", "/tofile/x/y"])
def test_something_else_in_the_way_is_an_error(path: str) -> None:
    with pytest.raises(BuildError, match=f'WORKDIR {path}: "/file" of the image is not a directory'):
        made(path)


def test_a_loop_of_links_is_an_error() -> None:
    with pytest.raises(LinkLoop):
        made("/loop/x")


def test_a_name_that_reads_as_a_removal_is_refused() -> None:
    with pytest.raises(UnsafePath):
        made("/srv/.wh.x/y")


def test_a_path_of_thousands_of_names_is_made_in_order() -> None:
    entries = missing_directories(IMAGE, "/x" * 5000, 0, 0, 0)
    assert len(entries) == 5000
    assert encode(entries)
