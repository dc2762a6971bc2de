"""Limits, as users meet them: what they do not touch, and what a message says."""

from __future__ import annotations

import gzip
import os
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import BASE, write_context
from tests.support.tars import entry, tar

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.cli import Pybuild

PACKED = gzip.compress(tar(entry(b"zeros", data=bytes(3 << 20))))


def test_a_large_file_of_zeros_can_be_built_on_exported_and_imported(pybuild: Pybuild, tmp_path: Path) -> None:
    """It compresses about 1000 times; a file of more than 1 GiB was once refused for that, in pybuild's own layer."""
    context = write_context(tmp_path, f"FROM {BASE}\nCOPY disk.img /\n")
    os.truncate(_created(context / "disk.img"), (1 << 30) + (16 << 20))
    pybuild("-t", "zeros", "-o", f"type=oci,dest={tmp_path}/zeros.tar", context)
    (context / "Buildfile").write_text("FROM zeros\nRUN test $(wc -c < /disk.img) = 1090519040\n")
    pybuild("--network=none", context)
    other = pybuild.with_environment({"PYBUILD_ROOT": f"{tmp_path}/other"})
    other("import", tmp_path / "zeros.tar")


def test_a_large_file_that_is_not_copied_costs_nothing(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path, f"FROM {BASE}\nCOPY small /\n", small="x")
    os.truncate(_created(context / "dataset.bin"), 1 << 43)
    pybuild(context)


@pytest.mark.parametrize("place", ["variable", "file"])
def test_a_worker_knows_the_limits_of_the_user(place: str, pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path, f"FROM {BASE}\nADD packed.tgz /\n")
    (context / "packed.tgz").write_bytes(PACKED)
    (tmp_path / "limits.toml").write_text('[limits]\nlayer-bytes = "2m"\n')
    changed = {"variable": {"PYBUILD_LIMIT_LAYER_BYTES": "2m"}, "file": {"PYBUILD_CONFIG": "limits.toml"}}[place]
    done = pybuild.with_environment(changed).run(context, cwd=tmp_path)
    assert done.status == 1
    assert "expands to more than the limit of 2 MiB" in done.err
    assert "PYBUILD_LIMIT_LAYER_BYTES" in done.err
    pybuild(context)


def test_a_limit_of_the_recipe_names_itself_at_its_place(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path, "FROM scratch\nFROM scratch\nFROM scratch\n")
    pybuild(context)  # the store then has the parsed recipe
    done = pybuild.run(context, PYBUILD_LIMIT_STAGES="2")
    assert done.status == 1
    assert "Buildfile:3:1: error: the recipe exceeds the limit of 2 stages" in done.err
    assert "hint: raise the limit stages with PYBUILD_LIMIT_STAGES or in the configuration file" in done.err


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("PYBUILD_LIMIT_STAGE", "error: PYBUILD_LIMIT_STAGE: there is no such limit; pybuild doctor --limits lists them"),
        ("PYBUILD_LIMIT_STAGES", "error: PYBUILD_LIMIT_STAGES=lots: expected a whole number"),
    ],
)
def test_a_misspelt_limit_is_an_error(variable: str, message: str, pybuild: Pybuild) -> None:
    done = pybuild.with_environment({variable: "lots"}).run("images")
    assert (done.status, done.err.strip()) == (1, message)


def test_doctor_lists_the_limits(pybuild: Pybuild) -> None:
    listed = pybuild("doctor", "--limits", PYBUILD_LIMIT_RETRIES="9").out
    assert "PYBUILD_LIMIT_RETRIES                                     9  requests for one thing, including the first" in listed
    assert "(default: 5)" in listed
    assert "256 GiB  a layer, or an archive of ADD, decompressed\n" in listed


def _created(path: Path) -> Path:
    path.touch()
    return path
