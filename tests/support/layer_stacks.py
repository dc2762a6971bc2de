"""Small layers that add, change and remove files in every combination, for hypothesis."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from pybuild.store.formats.toc import Toc, parent_of
from pybuild.store.layers.read import read_layer
from pybuild.store.layers.view import View
from tests.support.tars import directory, entry, tar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MEMBER_NAME = st.lists(st.sampled_from([b"a", b"b", b"c", b"a.b"]), min_size=1, max_size=3).map(b"/".join)
LAYER = st.lists(
    st.one_of(
        st.tuples(st.just("file"), MEMBER_NAME),
        st.tuples(st.just("directory"), MEMBER_NAME),
        st.tuples(st.just("remove"), MEMBER_NAME),
        st.tuples(st.just("opaque"), MEMBER_NAME),
    ),
    max_size=8,
)


def members(layer: list[tuple[str, bytes]]) -> dict[bytes, str]:
    """The layer as path -> verb, parents included; empty if the layer contradicts itself."""
    said: dict[bytes, str] = {}
    for verb, path in layer:
        above = parent_of(path)
        while above:
            if said.get(above) in ("file", "remove"):
                return {}
            said.setdefault(above, "parent")
            above = parent_of(above)
        if path in said:
            return {}
        said[path] = verb
    return said


def table(said: Mapping[bytes, str], below: Sequence[Toc]) -> Toc:
    """The table of contents of a layer that `members` describes, on the layers `below`, the topmost first."""
    data = []
    for path, verb in said.items():
        match verb:
            case "file":
                data.append(entry(path))
            case "remove":
                above, slash, name = path.rpartition(b"/")
                data.append(entry(above + slash + b".wh." + name))
            case "opaque":
                data.append(entry(path + b"/.wh..wh..opq"))
            case _:
                data.append(directory(path + b"/"))
    return Toc.of(read_layer(io.BytesIO(tar(*data)), View(below)))
