"""The largest things in a layer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.toc import Entry, Kind, Toc, encode, sort_key
from pybuild.store.layers.largest import largest


@pytest.mark.parametrize(
    ("files", "found"),
    [
        pytest.param({}, [], id="nothing"),
        pytest.param({"a": 0}, [], id="empty files"),
        pytest.param({"a": 1, "b": 3, "c": 2, "d": 4}, ["d 4", "b 3", "c 2"], id="files of the root"),
        pytest.param({"d/a": 1, "d/b": 1, "f": 1}, ["d/ 2", "f 1"], id="nothing in the directory has more than half of it"),
        pytest.param({"d/a": 5, "d/b": 1, "f": 2}, ["d/a 5", "f 2", "d/b 1"], id="a file that stands out"),
        pytest.param(
            {"usr/lib/x/a": 9, "usr/lib/x/b": 9, "usr/share/c": 7, "var/d": 1}, ["usr/lib/x/ 18", "usr/share/c 7", "var/d 1"],
            id="directories in which a directory stands out",
        ),
        pytest.param({"a/b/c/d": 3}, ["a/b/c/d 3"], id="one deep file"),
        pytest.param({"a": 2, "a.d/x": 1, "a.d/y": 1}, ["a.d/ 2", "a 2"], id="names that begin alike"),
    ],
)  # fmt: skip
def test_the_largest_things(files: dict[str, int], found: list[str]) -> None:
    things = largest(((path.encode(), size) for path, size in files.items()), 3)
    assert sorted(f"{path.decode()} {size}" for path, size in things) == sorted(found)
    assert [size for _, size in things] == sorted((size for _, size in things), reverse=True)


PATHS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=5).map("/".join)


@given(st.dictionaries(PATHS, st.integers(0, 9)), st.integers(1, 99))
def test_no_byte_counts_twice(files: dict[str, int], count: int) -> None:
    # A path cannot be a file and a directory.
    files = {path: size for path, size in files.items() if not any(other.startswith(path + "/") for other in files)}
    things = largest(((path.encode(), size) for path, size in files.items()), count)
    for path, size in things:
        inside = [each for name, each in files.items() if name == path.decode() or (path.endswith(b"/") and name.startswith(path.decode()))]
        assert size == sum(inside) > 0
    assert not [1 for path, _ in things for other, _ in things if path != other and path.endswith(b"/") and other.startswith(path)]
    if len(things) < count:
        assert sum(size for _, size in things) == sum(files.values())


def test_a_path_of_many_components() -> None:
    path = b"/".join([b"d"] * 4000)
    assert largest([(path, 7)], 3) == [(path, 7)]


ENTRIES = [
    Entry(b"d", Kind.DIRECTORY, 0o755),
    Entry(b"d/a", Kind.FILE, size=1 << 40, sha256=b"1" * 32, xattrs=((b"k", b"v"),)),
    Entry(b"d/b", Kind.FILE, size=1 << 40, sha256=b"1" * 32, hardlink=b"d/a"),
    Entry(b"d/empty", Kind.FILE),
    Entry(b"l", Kind.SYMLINK, link=b"d"),
    Entry(b"w", Kind.WHITEOUT),
    Entry(b"x", Kind.FILE, size=5),
]


def test_a_table_of_contents_gives_the_bytes_of_its_files() -> None:
    assert list(Toc.of(sorted(ENTRIES, key=lambda entry: sort_key(entry.path))).contents()) == [(b"d/a", 1 << 40), (b"x", 5)]


def test_a_damaged_entry_is_noticed() -> None:
    data = bytearray(encode(ENTRIES))
    data[data.index(b"d/a")] ^= 1
    with pytest.raises(InvalidImage, match="damaged"):
        list(Toc(bytes(data)).contents())
