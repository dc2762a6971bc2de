"""Layers are written only if an output needs them, and in parallel with the steps on top of them."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import BASE, Pybuild, write_context
from tests.support.disks import small_disk

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.cli import Done
    from tests.support.people import Person

EPOCH = {"SOURCE_DATE_EPOCH": "1600000000"}
FIRST = "mkdir /many; for n in $(seq 600); do echo $n > /many/$n; done; echo 'new:x:77:77::/:/bin/sh' >> /etc/passwd"
SECOND = "cat /source /many/600 > /result; rm /many/1; chmod 700 /many; ln /many/3 /other"
STAGES = f"""\
FROM {BASE} AS build
COPY source /source
RUN {FIRST}
RUN {SECOND}
FROM {BASE}
COPY --from=build /result /result
"""
CHAIN = f"""\
FROM {BASE}
RUN {FIRST}
RUN echo "$(id -u new) sees $(ls /many | wc -l)"
RUN rm -r /many; mkdir /many; echo 1 > /many/2
"""


def ask(pybuild: Pybuild, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(pybuild.root / "metadata.db")) as db:
        found = db.execute(query).fetchall()
        db.commit()
    return found


def layers_of(pybuild: Pybuild, words: str) -> list[object]:
    """How the layers of the steps with these texts are stored: "tree" for a tree without a tar."""
    rows = ask(
        pybuild,
        "SELECT coalesce(compression, 'tree') FROM records r JOIN snapshots s ON s.id = r.snapshot"
        " LEFT JOIN tars USING (changeset) LEFT JOIN layer_blobs USING (diff_id)"
        f" WHERE r.inputs LIKE '%{words}%' ORDER BY 1",
    )
    return [row[0] for row in rows]


def runs_of(done: Done) -> list[bool]:
    """Whether each RUN was cached."""
    return [cached for text, cached in done.finished().items() if text.startswith("RUN")]


# -- a stage that is only copied from


def test_a_builder_stage_gets_layers_only_as_an_image(person: Person) -> None:
    pybuild = person.pybuild(**EPOCH)
    context = person.context("c", STAGES, source="of the context\n")
    pybuild("--network=none", context)
    assert layers_of(pybuild, "mkdir /many") == layers_of(pybuild, "rm /many/1") == ["tree"]
    assert layers_of(pybuild, '"step":"COPY"') == ["gzip", "uncompressed"]  # of the image and of its builder stage
    pybuild("gc")
    pybuild.assert_whole()

    late = pybuild("--network=none", "--target=build", "--progress=json", context)
    assert set(late.finished().values()) == {True}
    assert layers_of(pybuild, "mkdir /many") == layers_of(pybuild, "rm /many/1") == ["gzip"]
    pybuild.assert_whole()
    at_once = pybuild("--network=none", "--target=build", "--no-cache", context)
    assert late.out == at_once.out


def rebuilt(pybuild: Pybuild, context: Path) -> Done:
    """Build with another COPY, which must read the result of the first stage."""
    recipe = context / "Buildfile"
    recipe.write_text(recipe.read_text().replace("/result /result", "/many/600 /elsewhere"))
    done = pybuild("--network=none", "--progress=json", "-o", f"type=local,dest={context}/out", context)
    assert (context / "out/elsewhere").read_text() == "600\n"
    pybuild("gc")
    pybuild.assert_whole()
    assert set(pybuild("--network=none", "--progress=json", context).finished().values()) == {True}
    return done


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write_context(tmp_path / "context", STAGES, source="of the context\n")


def test_a_tree_with_another_id_map_is_rebuilt(pybuild: Pybuild, context: Path) -> None:
    pybuild("--network=none", context)
    ask(pybuild, "UPDATE trees SET id_map = 'another'")
    assert runs_of(rebuilt(pybuild, context)) == [False, False]


def test_a_tree_that_a_power_cut_can_have_damaged(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    """A build that stores an image syncs the trees of its builder stages; a build that only writes an archive does not."""
    pybuild("--network=none", "-o", f"type=oci,dest={tmp_path}/out.tar", context)
    for table in ("trees", "changesets", "tocs", "blobs"):
        ask(pybuild, f"UPDATE {table} SET boot = 'another' WHERE boot IS NOT NULL")
    assert runs_of(rebuilt(pybuild, context)) == [False, False]
    assert ask(pybuild, "SELECT 1 FROM trees WHERE boot IS NOT NULL") == []


def test_an_unneeded_tree_is_not_read(pybuild: Pybuild, context: Path) -> None:
    pybuild("--network=none", context)
    ask(pybuild, "UPDATE trees SET id_map = 'another'")
    assert set(pybuild("--network=none", "--progress=json", "--require-cached", context).finished().values()) == {True}


def test_a_damaged_tree_gives_no_layer(pybuild: Pybuild, context: Path) -> None:
    pybuild("--network=none", context)
    (file,) = (pybuild.root / "trees").glob("*/fs/many/600")
    status = file.stat()
    file.write_text("60O\n")
    os.utime(file, ns=(status.st_mtime_ns, status.st_mtime_ns))
    message = pybuild.refused("--network=none", "--target=build", context)
    assert '"many/600" does not match its digest' in message and "--no-cache" in message
    pybuild("--network=none", "--target=build", "--no-cache", context)


@pytest.mark.parametrize("content", ["60O\n", "", "longer than before\n"])
def test_a_damaged_tree_is_not_copied_from(pybuild: Pybuild, context: Path, content: str) -> None:
    pybuild("--network=none", context)
    (file,) = (pybuild.root / "trees").glob("*/fs/many/600")
    file.write_text(content)
    os.utime(file, (1, 1))  # a build can end within the second in which its RUN made the file
    recipe = context / "Buildfile"
    recipe.write_text(recipe.read_text().replace("/result /result", "/many /many"))
    done = pybuild.run("--network=none", context)
    assert done.status == 1
    assert "Buildfile:6:1: error:" in done.err and "damaged" in done.err and "--no-cache" in done.err
    assert '"many/600": time' in pybuild.run("fsck").out


# -- a RUN that stands on another one


def test_a_run_starts_while_the_layer_below_is_written(person: Person) -> None:
    pybuild = person.pybuild(**EPOCH)
    context = person.context("c", CHAIN)
    done = pybuild("--network=none", "--progress=json", "-o", f"type=oci,dest={person.home}/beside.tar", context)
    assert "77 sees 600" in "".join(str(event.get("data", "")) for event in done.events)  # a user that the step below creates
    printed = [
        (str(event["event"]), str(event["instruction"]).split()[1])
        for event in done.events
        if event["event"] in ("step_started", "step_finished")
    ]
    assert printed[:3] == [("step_started", "mkdir"), ("step_started", "echo"), ("step_finished", "mkdir")]
    pybuild.assert_whole()

    alone = pybuild(
        "--network=none", "--progress=json", "--no-cache", "--jobs=1", "-o", f"type=oci,dest={person.home}/alone.tar", context
    )
    assert alone.out == done.out
    assert (person.home / "alone.tar").read_bytes() == (person.home / "beside.tar").read_bytes()


def test_a_layer_below_a_failing_command_is_cached(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN {FIRST}\nRUN exit 3\n")
    out = tmp_path / "out"
    message = pybuild.refused("--network=none", f"--on-fail=export=/many/600:{out}", context)
    assert "Buildfile:3:1: error: RUN exited with status 3" in message
    assert out.read_text() == "600\n"
    (context / "Buildfile").write_text(f"FROM {BASE}\nRUN {FIRST}\nRUN exit 0\n")
    assert runs_of(pybuild("--network=none", "--progress=json", context)) == [True, False]


def test_a_user_created_by_the_step_below(pybuild: Pybuild, tmp_path: Path) -> None:
    """The user is in a passwd file whose content no table of contents has yet."""
    recipe = f"FROM {BASE}\nRUN {FIRST}\nUSER new\nRUN id -u\nUSER 0\nRUN {FIRST.replace('77:77', '78:78')}\nUSER new\nRUN id -u\n"
    context = write_context(tmp_path / "c", recipe.replace("mkdir /many;", "mkdir -p /many; sed -i /^new/d /etc/passwd;"))
    done = pybuild("--network=none", "--progress=json", context)
    message = [str(event["data"]) for event in done.events if event["event"] == "step_output"]
    assert message == ["77\n", "78\n"]


def test_a_layer_that_cannot_be_written_fails_its_step(base_archive: Path, tmp_path: Path) -> None:
    """There is space for the files but not for their tar; the step on top never ends."""
    recipe = f"FROM {BASE}\nRUN head -c 20000000 /dev/urandom > /random\nRUN while true; do sleep 1; done\n"
    context = write_context(tmp_path / "c", recipe)
    with small_disk(tmp_path / "disk", "size=32m") as disk:
        pybuild = Pybuild(disk / "store")
        pybuild("import", base_archive)
        message = pybuild.refused("--network=none", context)
    assert "no space left" in message.lower()
    assert "Buildfile:2:1: error:" in message
