"""A store whose path is as long as SQLite allows, and one that is longer."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.cli import BASE, Pybuild, copy_store, write_context

LONGEST = 492


def long_path(place: Path, length: int) -> Path:
    path = place
    while len(os.fsencode(path)) < length:
        path /= "d" * min(200, length - len(os.fsencode(path)) - 1)
    path.parent.mkdir(parents=True)
    assert len(os.fsencode(path)) == length
    return path


def test_a_build_in_a_store_with_the_longest_path(tmp_path: Path, store_with_base: Path) -> None:
    root = long_path(tmp_path / "s", LONGEST)
    copy_store(store_with_base, root)
    pybuild = Pybuild(root)
    steps = "".join(f"RUN echo {number} > /f{number}\n" for number in range(12))
    context = write_context(
        tmp_path / "c",
        f"FROM {BASE} AS many\n{steps}FROM {BASE}\nCOPY --from=many / /all\n"
        "RUN --mount=type=bind,from=many,source=/,target=/b --mount=type=cache,target=/c cat /b/f11 > /c/x; cp /c/x /y\n",
    )
    archive = tmp_path / "o.tar"
    done = pybuild("-q", "--network=none", "-t", "long", "-o", f"type=oci,dest={archive}", context)
    assert pybuild("inspect", "long").out and archive.stat().st_size
    pybuild("gc", "--all")
    pybuild.assert_whole()
    assert pybuild("-q", "--network=none", context).out == done.out
    pybuild.assert_whole()


def test_a_longer_path_is_refused(tmp_path: Path) -> None:
    for length in (LONGEST + 1, 4000):
        root = long_path(tmp_path / str(length), length)
        said = Pybuild(root).run("images")
        assert (said.status, said.err.count("\n")) == (1, 2), said.err
        assert f"the path of the store, links resolved, has {length} bytes; because of SQLite it can have at most {LONGEST}" in said.err
        assert "hint: choose a shorter one with --root" in said.err
    link = tmp_path / "link"
    link.symlink_to(root)
    assert f"links resolved, has {length} bytes" in Pybuild(link).run("images").err

