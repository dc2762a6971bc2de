"""--timestamp: one time for config, history and all files of new layers, as with buildah."""

from __future__ import annotations

import io
import json
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.support.archive import read_archive
from tests.support.cli import BASE, Pybuild, copy_store, write_context

if TYPE_CHECKING:
    from pathlib import Path

T, TEXT = 1_500_000_000, "2017-07-14T02:40:00Z"
RECIPE = f"FROM {BASE}\nCOPY old new /d/\nRUN touch -d @5 /past && touch /now && echo epoch=$SOURCE_DATE_EPOCH\nLABEL a=b\n"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    place = write_context(tmp_path / "c", RECIPE, old="old", new="new")
    os.utime(place / "old", (1_000_000_000, 1_000_000_000))
    return place


def times(layers: tuple[bytes, ...]) -> set[float]:
    found = set()
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
            found |= {member.mtime for member in tar}
    return found


def built(pybuild: Pybuild, context: Path, place: Path, *options: str) -> tuple[str, set[float]]:
    """The digest, and the times in the layers that are not of the base."""
    digest = pybuild("-q", *options, "-o", f"type=oci,dest={place}", context).out.strip()
    return digest, times(read_archive(place).layers[1:])


def test_all_that_is_new_has_the_time(pybuild: Pybuild, tmp_path: Path, context: Path) -> None:
    digest, found = built(pybuild, context, tmp_path / "a.tar", f"--timestamp={T}")
    assert found == {T}
    config = json.loads(pybuild("inspect", digest).out)["config"]
    assert config["created"] == TEXT
    assert [line["created"] for line in config["history"][-3:]] == [TEXT] * 3
    pybuild("-q", f"--timestamp={T}", "-o", f"type=tar,dest={tmp_path}/f.tar", "-o", f"type=local,dest={tmp_path}/f", context)
    with tarfile.open(tmp_path / "f.tar") as tar:
        assert {tar.getmember(name).mtime for name in ("d/old", "d/new", "past", "now")} == {T}
        assert tar.getmember("bin/busybox").mtime != T  # of the base
    assert (tmp_path / "f/past").stat().st_mtime == T
    assert pybuild("fsck", "--deep").status == 0


def test_steps_do_not_see_it(pybuild: Pybuild, context: Path) -> None:
    assert "| epoch=\n" in pybuild("--progress=plain", f"--timestamp={T}", context).err


def test_it_is_the_same_in_every_store(pybuild: Pybuild, store_with_base: Path, tmp_path: Path, context: Path) -> None:
    copy_store(store_with_base, tmp_path / "other")
    other = Pybuild(tmp_path / "other")
    assert built(pybuild, context, tmp_path / "a.tar", "--timestamp=0") == built(other, context, tmp_path / "b.tar", "--timestamp=0")


@pytest.mark.parametrize("first", ["--timestamp", "--source-date-epoch", ""])
def test_layers_of_one_kind_do_not_serve_for_another(pybuild: Pybuild, tmp_path: Path, context: Path, first: str) -> None:
    """All three in one store, in any order, give what they give in stores of their own."""
    past = {5, 1_000_000_000}  # the first is of the RUN, the second of the context
    if first:
        built(pybuild, context, tmp_path / "first.tar", f"{first}={T}")
    assert built(pybuild, context, tmp_path / "a.tar", f"--timestamp={T}")[1] == {T}
    assert built(pybuild, context, tmp_path / "b.tar", f"--source-date-epoch={T}")[1] == past | {T}
    without = built(pybuild, context, tmp_path / "c.tar")[1]
    assert past < without and T not in without
    assert "0 damaged" in pybuild("fsck").out


def test_a_variable_counts_for_steps_only(pybuild: Pybuild, tmp_path: Path, context: Path) -> None:
    with_variable = Pybuild(pybuild.root, {"SOURCE_DATE_EPOCH": "7"})
    assert built(with_variable, context, tmp_path / "a.tar", f"--timestamp={T}")[1] == {T}


@pytest.mark.parametrize(
    "options", [["--timestamp="], ["--timestamp=-1"], ["--timestamp=x"], ["--timestamp=1", "--source-date-epoch=1"]]
)
def test_what_is_no_time_is_an_error(pybuild: Pybuild, tmp_path: Path, options: list[str]) -> None:
    assert "--timestamp" in pybuild.refused(*options, tmp_path, status=2)


def test_nothing_differs_between_two_builds(pybuild: Pybuild, context: Path) -> None:
    done = pybuild("--reproduce", f"--timestamp={T}", context)
    assert done.out.startswith("sha256:")
    assert "SOURCE_DATE_EPOCH is not set" not in done.err
