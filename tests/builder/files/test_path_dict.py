"""A dictionary of paths: like any other, and what is below a directory goes at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from pybuild.builder.files import path_dict
from pybuild.builder.files.path_dict import PathDict

if TYPE_CHECKING:
    import pytest

PATHS = st.lists(st.sampled_from([b"a", b"b", b"ab"]), min_size=1, max_size=4).map(b"/".join)


@given(st.lists(st.tuples(st.booleans(), PATHS)))
def test_it_forgets_what_is_below_a_directory(actions: list[tuple[bool, bytes]]) -> None:
    found, model = PathDict[int](), dict[bytes, int]()
    for number, (drop, path) in enumerate(actions):
        if drop:
            gone = [known for known in model if known.startswith(path + b"/")]
            assert sorted(found.drop_below(path)) == sorted(gone)
            for known in gone:
                del model[known]
        else:
            found[path] = model[path] = number
        assert found == model


def test_dropping_does_not_look_at_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    found = PathDict[int]()
    for number in range(1000):
        found[b"d%d" % number] = number
    asked: list[bytes] = []

    def counting(path: bytes) -> bytes:
        asked.append(path)
        return path.rpartition(b"/")[0]

    monkeypatch.setattr(path_dict, "parent_of", counting)
    for number in range(1000):
        assert found.drop_below(b"d%d" % number) == []
        found[b"d%d" % number] = -1
    assert len(asked) <= 3000
