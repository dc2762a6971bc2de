"""pybuild build --reproduce: two builds in empty stores, and what differs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.cli import BASE, FIXTURES, Pybuild, write_context
from tests.support.people import Person

PLANTED = f"""FROM {BASE}
RUN date > /when; cat /proc/sys/kernel/random/uuid > /id; mkdir /d; touch /d/f; tar -C /d -cf /a.tar .; rm -r /d; echo fixed > /fixed
FROM scratch
COPY --from=0 /when /id /a.tar /fixed /
"""


@pytest.mark.parametrize("person", ["root", "range"], indirect=True)
def test_planted_differences_are_explained(person: Person) -> None:
    context = person.context("c", PLANTED)
    pybuild = person.pybuild()
    done = pybuild.run("--reproduce", "--network=none", context)
    assert done.status == 1, done.err
    assert "[linux/amd64] layer 1: COPY /when /id /a.tar /fixed /" in done.out
    assert "  /a.tar\n    ./: time 1" in done.out and "cure: give the archiver fixed times: tar --mtime=" in done.out
    assert "  /when\n    -" in done.out and "cure: set SOURCE_DATE_EPOCH" in done.out
    assert "  /id\n    -" in done.out and "/fixed\n" not in done.out.replace("/fixed /", "")
    assert "3 differences: sha256:" in done.out
    assert "SOURCE_DATE_EPOCH is not set: both builds take the present time for it" in done.err
    lines = pybuild.run("--reproduce", "--network=none", "--progress=json", context).out.splitlines()
    assert [json.loads(line)["path"] for line in lines] == ["a.tar", "id", "when"]
    pybuild.assert_whole()


def test_nothing_differs_in_the_demo(pybuild: Pybuild, base_archive: Path) -> None:
    done = pybuild("--reproduce", "--network=none", "--source-date-epoch=1700000000", FIXTURES / "demo")
    again = pybuild("-q", "--network=none", FIXTURES / "demo", SOURCE_DATE_EPOCH="1700000000")
    assert done.out == again.out
    pybuild.assert_whole()
    assert "demo" not in pybuild("images").out


def test_a_build_that_fails_leaves_nothing(pybuild: Pybuild, tmp_path: Path) -> None:
    message = pybuild.refused("--reproduce", "--network=none", write_context(tmp_path / "c", f"FROM {BASE}\nRUN exit 3\n"))
    assert "Buildfile:2:1: error: RUN exited with status 3" in message
    assert os.listdir(pybuild.root / "ingest") == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-t", "app"], "--reproduce keeps no image and uses no cache: leave out --tag"),
        (["-o", "type=tar,dest=x"], "leave out --output"),
        (["--cache-from", "type=local,src=x"], "leave out --cache-from"),
        (["--source-date-epoch", "x"], "SOURCE_DATE_EPOCH=x: expected seconds since 1970"),
        (["--source-date-epoch", "1", "--build-arg", "SOURCE_DATE_EPOCH=2"], "--source-date-epoch 1: --build-arg has 2"),
        (["--timestamp", "1", "--source-date-epoch", "1"], "--timestamp sets all times, and --source-date-epoch bounds them"),
    ],
)
def test_options_that_do_not_go_with_it(pybuild: Pybuild, tmp_path: Path, arguments: list[str], said: str) -> None:
    context = write_context(tmp_path / "c", "FROM scratch\nCOPY f /\n", f="x")
    assert said in pybuild.refused("--reproduce", *arguments, context, status=2, cwd=tmp_path)


def test_rewriting_times(pybuild: Pybuild, tmp_path: Path) -> None:
    """BuildKit's key asks for what a build with SOURCE_DATE_EPOCH does in any case."""
    context = write_context(tmp_path / "c", "FROM scratch\nCOPY f /\n", f="x")
    output = f"type=oci,dest={tmp_path}/o.tar,rewrite-timestamp="
    digests = [
        pybuild("--source-date-epoch=1", *options, context).out for options in (["-o", output + "true"], ["--rewrite-timestamp"])
    ]
    assert digests[0] == digests[1]
    assert "leave out rewrite-timestamp=false" in pybuild.refused("-o", output + "false", context, status=2)
    pybuild("-t", "app", context)
    assert "stay as they are: build it with" in pybuild.refused("export", "app", "-o", output + "true", status=2)
    assert "unknown key 'rewrite-timestamp'" in pybuild.refused("-o", "type=tar,dest=x,rewrite-timestamp=true", context, status=2)
