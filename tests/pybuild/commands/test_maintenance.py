"""gc and df as users run them, also in parallel with builds."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from pybuild.store.objects.builds import KEPT_BUILDS, StoredBuild
from pybuild.store.store import Store
from tests.support.cli import SCRIPT, Pybuild, write_context
from tests.support.people import Person
from tests.support.processes import running

RECIPE = """\
FROM pybuild.test/base AS made
ARG X=1
RUN head -c 300000 /dev/urandom > /big && mkdir -m 700 /closed && echo $X > /closed/x

FROM pybuild.test/base
COPY --from=made /big /closed /srv/
RUN echo $RANDOM > /top
"""


def freed(pybuild: Pybuild, *arguments: str) -> dict[str, int]:
    found: dict[str, int] = json.loads(pybuild("gc", "--json", *arguments).out)
    return found


def test_gc_reports_what_it_frees_and_keeps_named_images(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "context", RECIPE)
    first = pybuild("-t", "app", context).out.strip()
    second = pybuild("-t", "app", "--build-arg", "X=2", context).out.strip()
    assert freed(pybuild, "--dry-run")["images"] == freed(pybuild)["images"] == 1
    assert first not in pybuild("images", "--json").out
    again = pybuild("--progress=json", context).finished()
    assert all(again.values()), "records are kept"

    assert freed(pybuild, "--all", "--dry-run") == {**freed(pybuild, "--all"), "dry_run": True}
    assert pybuild("gc").out.startswith("freed 0 B\n")
    assert second in pybuild("images", "--json").out
    # A build without changes is cached although gc removed data that no image needs.
    assert all(pybuild("--progress=json", "--build-arg", "X=2", context).finished().values())
    pybuild("export", "app", "-o", f"type=oci,dest={tmp_path}/app.tar")
    pybuild.assert_whole()


def without_tables(pybuild: Pybuild) -> int:
    """What the store takes, in bytes. A limit does not count the tables with their log, and the reserve for them."""
    usage = json.loads(pybuild("df", "--json").out)
    return int(usage["total"]) - int(usage["reserve"]) - int(usage["tables"])


def test_the_store_is_kept_within_its_limit_after_each_build(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "context", RECIPE)
    pybuild("-t", "app", context)
    limit = without_tables(pybuild) + 400_000
    for number in range(2, 4):
        done = pybuild("-t", "app", "--build-arg", f"X={number}", context, PYBUILD_KEEP_STORAGE=str(limit))
        assert without_tables(pybuild) < limit + 200_000
    assert "freed to keep the store within" in done.err
    pybuild.assert_whole()
    assert "PYBUILD_KEEP_STORAGE: invalid size 'much'" in pybuild.run(context, PYBUILD_KEEP_STORAGE="much").err


def test_wrong_options_are_usage_errors(pybuild: Pybuild) -> None:
    assert "exclude each other" in pybuild.refused("gc", "--all", "--keep-storage", "1g", status=2)
    assert "--keep-storage: invalid size 'x'" in pybuild.refused("gc", "--keep-storage", "x", status=2)


def test_df_counts_the_store(tmp_path: Path, pybuild: Pybuild) -> None:
    pybuild("-t", "app", write_context(tmp_path / "context", RECIPE))
    found = json.loads(pybuild("df", "--json").out)
    kept = sum(part["size"] for part in found["kept_for"].values())
    rest = found["tables"] + found["memos"] + found["logs"]["size"] + found["reserve"]
    assert kept == sum(part["size"] for part in found["stored_as"].values()) == found["total"] - rest
    logged = [path.stat().st_size for path in (pybuild.root / "logs").rglob("*") if path.is_file()]
    assert found["logs"] == {"count": 1, "size": sum(logged)} and sum(logged) > 0
    assert [item["name"] for item in found["items"] if item["kept_for"] == "images"] == [
        "app:latest",
        "pybuild.test/base:latest",
    ]
    on_disk = int(
        subprocess.run(["du", "-sb", pybuild.root], capture_output=True, text=True, check=True).stdout.split()[0]
    )
    assert abs(found["total"] - on_disk) < 300_000  # blocks of trees and directories of the store
    lines = pybuild("df", "-v").out.splitlines()
    assert lines[0].split() == ["KEPT", "FOR", "COUNT", "SIZE"]
    place = f"RUN echo $RANDOM > /top  {tmp_path}/context/Buildfile:7 [stage-1 2]"
    in_records, in_layers = (line for line in lines if place in line)
    assert lines.index(in_layers) > lines.index(f"{'SIZE':>10}  LAYERS") > lines.index(in_records)
    assert any(line.endswith("layer of app:latest, pybuild.test/base:latest") for line in lines)


def test_df_counts_each_layer_once_with_the_step_that_made_it(tmp_path: Path, pybuild: Pybuild) -> None:
    recipe = "FROM pybuild.test/base AS one\nRUN echo 1 > /f\nFROM one\nCOPY --from=one /f /g\n"
    pybuild("-t", "app", write_context(tmp_path / "context", recipe))
    found = json.loads(pybuild("df", "--json").out)
    steps = {
        (step["stage"], step["number"], step["line"], step["instruction"]): layer["images"]
        for layer in found["layers"]
        if (step := layer["step"]) and step["recipe"] == f"{tmp_path}/context/Buildfile"
    }
    assert steps == {
        ("one", 1, 2, "RUN echo 1 > /f"): ["app:latest"],
        ("stage-1", 1, 4, "COPY --from=one /f /g"): ["app:latest"],
    }
    (base,) = (layer for layer in found["layers"] if layer["step"] is None)
    assert base["images"] == ["app:latest", "pybuild.test/base:latest"]
    manifests = sum(item["own"] for item in found["items"] if item["kept_for"] != "cache mounts") - sum(
        layer["size"] for layer in found["layers"]
    )
    assert 0 < manifests < 10_000  # all that images and records need besides layers: manifests and configs
    records = [item["step"] for item in found["items"] if item["kept_for"] == "cache records"]
    assert {step["instruction"] for step in records} == {"RUN echo 1 > /f", "COPY --from=one /f /g"}


def test_df_names_a_step_without_its_place_if_the_builds_are_forgotten(tmp_path: Path, pybuild: Pybuild) -> None:
    pybuild(write_context(tmp_path / "context", "FROM pybuild.test/base\nRUN echo 1 > /f\n"))
    with Store(str(pybuild.root)) as store, store.metadata.transaction() as db:
        db.execute("DELETE FROM builds")
    lines = pybuild("df", "-v").out.splitlines()
    assert any(line.endswith("  RUN echo 1 > /f") for line in lines)
    assert not any("Buildfile" in line for line in lines)


def test_gc_removes_logs_of_forgotten_builds(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "context", "FROM pybuild.test/base\nRUN echo x\n")
    pybuild(context)
    (kept,) = os.listdir(pybuild.root / "logs")
    with Store(str(pybuild.root)) as store:
        for number in range(KEPT_BUILDS - 1):
            store.builds.add(StoredBuild(f"3{number:03}", "/r", "", "", ()))
    write_context(pybuild.root / "logs" / "19990101", "an old one")
    assert freed(pybuild)["logs"] == freed(pybuild, "--dry-run")["logs"] + 1 == 1
    assert os.listdir(pybuild.root / "logs") == [kept]
    assert kept in pybuild("logs", "--list").out and "remembered" not in pybuild("why", kept).err


def test_builds_succeed_in_parallel_with_gc(tmp_path: Path, pybuild: Pybuild) -> None:
    """Several builds with new and cached steps run while gc repeatedly removes everything that it can."""
    context = write_context(tmp_path / "context", RECIPE + "ARG Y\nRUN echo $Y > /last\n")
    builds = [
        subprocess.Popen(
            ["sh", "-ec", f"for y in 1 2; do {SCRIPT} -q -t app{x} --build-arg X={x % 2} --build-arg Y=$y {context}; done"],
            env=pybuild.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )
        for x in range(2)
    ]  # fmt: skip
    rounds = 0
    while any(build.poll() is None for build in builds):
        assert freed(pybuild, *(["--all"] if rounds % 2 else []))
        rounds += 1
    for build in builds:
        out, err = build.communicate()
        assert build.returncode == 0, err.decode()
        assert len(out.split()) == 2
    assert rounds > 1
    for x in range(2):
        pybuild("export", f"app{x}", "-o", f"type=tar,dest={tmp_path}/{x}.tar")
    freed(pybuild, "--all")
    assert freed(pybuild, "--all")["size"] == 0
    pybuild.assert_whole()


def test_gc_keeps_the_data_of_a_running_step(tmp_path: Path, pybuild: Pybuild) -> None:
    waits = "RUN head -c 100000 /dev/urandom > /f\nRUN echo ready; while [ ! -e /dev/shm/never ]; do sleep 0.1; done\n"
    context = write_context(tmp_path / "context", f"FROM pybuild.test/base\n{waits}")
    with running(pybuild, context) as build:
        build.wait_for("step_output", "ready")
        pybuild("rmi", "pybuild.test/base")
        found = freed(pybuild, "--all")
        assert found["waiting"] > 100_000
        assert found["layers"] == 0
    assert freed(pybuild, "--all")["layers"] == 2
    pybuild.assert_whole()


def test_every_user_can_remove_the_trees_of_their_steps(person: Person) -> None:
    pybuild = person.pybuild()
    context = person.context("context", RECIPE)
    for number in range(2):
        pybuild("-t", "app", "--build-arg", f"X={number}", context)
    assert freed(pybuild)["images"] == 1
    assert freed(pybuild, "--all")["layers"] == 4
    pybuild("rmi", "app", "pybuild.test/base")
    freed(pybuild, "--all")
    assert os.listdir(person.home / "store/trees") == []
    assert json.loads(pybuild("df", "--json").out)["kept_for"]["nothing"]["count"] == 0
    pybuild.assert_whole()


def test_fsck_repair_keeps_what_another_form_still_has(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", "FROM pybuild.test/base\nRUN echo made > /made\n")
    digest = pybuild("-t", "app", context).out
    for toc in (pybuild.root / "tocs").iterdir():
        toc.write_bytes(b"")
    damaged = pybuild.run("fsck")
    assert damaged.status == 1 and "hint: pybuild fsck --repair" in damaged.err
    repaired = pybuild("fsck", "--repair")
    assert repaired.out.count("will be read again from its blob") == 2 and ", 0 damaged," in repaired.out
    assert pybuild("-t", "app", context).out == digest
    assert "/made" in pybuild("history", "--files", "app").out
    assert ", 0 damaged," in pybuild("fsck").out
