"""The verbs for images and the store: images, tag, rmi, inspect, history, export, import, fsck, reset."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.archive import read_archive
from tests.support.cli import Pybuild, write_context
from tests.support.tars import entry, symlink, tar

BASE = "pybuild.test/base:latest"
RECIPE = """\
FROM pybuild.test/base
ENV A=1
RUN mkdir /d && echo one > /d/one && echo two > /d/two
RUN echo 1 > /d/one && rm /d/two && ln -s one /d/link
LABEL b=c
"""


@pytest.fixture
def app(tmp_path: Path, pybuild: Pybuild) -> str:
    """The digest of an image `app` in the store."""
    return pybuild("-t", "app", write_context(tmp_path / "context", RECIPE)).out.strip()


def rows(pybuild: Pybuild, *arguments: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in pybuild(*arguments, "--json").out.splitlines()]


def names(pybuild: Pybuild) -> dict[object, object]:
    return {row["name"]: row["digest"] for row in rows(pybuild, "images")}


# -- history


def test_history_is_a_table_of_instructions(pybuild: Pybuild, app: str) -> None:
    head, *lines = pybuild("history", "app").out.splitlines()
    assert head.split() == ["SIZE", "CREATED", "LAYER", "INSTRUCTION"]
    assert [line[46:].split()[0] for line in lines] == ["base", "ENV", "RUN", "RUN", "LABEL"]
    layers = [row["layer"] for row in rows(pybuild, "history", "app")]
    shown = [line[33:45].strip() for line in lines]
    assert shown == [str(layer or "").removeprefix("sha256:")[:12] for layer in layers]


def test_history_as_json_names_the_layers_of_the_manifest(pybuild: Pybuild, app: str) -> None:
    found = rows(pybuild, "history", "app")
    image = json.loads(pybuild("inspect", "app").out)
    layers = [row for row in found if row["layer"]]
    assert [row["layer"] for row in layers] == [layer["digest"] for layer in image["manifest"]["layers"]]
    assert [row["size"] for row in layers] == [layer["size"] for layer in image["manifest"]["layers"]]
    assert [row["diff_id"] for row in layers] == image["config"]["rootfs"]["diff_ids"]
    assert [row["instruction"] for row in found] == [line["created_by"] for line in image["config"]["history"]]


def test_history_lists_what_each_layer_adds_changes_and_deletes(pybuild: Pybuild, app: str) -> None:
    found = rows(pybuild, "history", "--files", "app")
    changes = [[(change["change"], change["path"]) for change in row["files"]] for row in found]  # type: ignore[attr-defined]
    assert ("A", "/bin/busybox") in changes[0]
    assert changes[1:] == [
        [],
        [("A", "/d"), ("A", "/d/one"), ("A", "/d/two")],
        [("A", "/d/link"), ("C", "/d/one"), ("D", "/d/two")],
        [],
    ]
    text = pybuild("history", "--files", "app").out
    assert "\n      4 B  A /d/two\n" in text
    assert "\n           D /d/two  (hides 4 B of lower layers)\n" in text
    assert "\n      8 B  in all; later layers hide 8 B of it\n" in text


def test_history_sorts_shortens_and_sums_the_files_of_each_layer(pybuild: Pybuild, app: str) -> None:
    sorted_ = rows(pybuild, "history", "--files", "--sort", "size", "-n", "1", "app")
    assert [[change["path"] for change in row["files"]] for row in sorted_] == [  # type: ignore[attr-defined]
        ["/bin/["], [], ["/d/one"], ["/d/one"], [],
    ]  # fmt: skip
    assert [(row["content"], row["hidden"]) for row in sorted_[2:4]] == [(8, 8), (2, 0)]
    summed = rows(pybuild, "history", "--files", "--depth", "1", "app")
    assert summed[2]["files"] == [{"change": "A", "path": "/d/", "size": 8, "paths": 3}]
    assert summed[3]["files"] == [{"change": "C", "path": "/d/", "size": 2, "hides": 8, "paths": 3}]
    assert "(2 lines not shown)" in pybuild("history", "--files", "app", "-n1").out


def test_history_waste_names_files_their_layer_and_who_hides_them(pybuild: Pybuild, app: str) -> None:
    *lines, last = pybuild("history", "--waste", "app").out.splitlines()
    assert [line.split("  of ")[0] for line in lines] == ["      4 B  /d/one", "      4 B  /d/two"]
    assert "overwritten by `RUN" in lines[0] and "deleted by `RUN" in lines[1]
    assert last.startswith("      8 B  wasted of ")
    found = rows(pybuild, "history", "--waste", "--depth", "1", "app")
    assert [(row["path"], row["size"], row["reason"], row["paths"]) for row in found] == [
        ("/d/", 4, "overwritten", 1), ("/d/", 4, "deleted", 1),
    ]  # fmt: skip
    layers = [row["diff_id"] for row in rows(pybuild, "history", "app") if row["diff_id"]]
    assert {(row["diff_id"], row["hidden_by"]) for row in found} == {(layers[1], layers[2])}


@pytest.mark.parametrize("options", [("--sort", "size"), ("-n", "3"), ("--depth", "1"), ("--files", "--waste")])
def test_options_of_history_that_need_another(pybuild: Pybuild, app: str, options: tuple[str, ...]) -> None:
    assert "--files" in pybuild.refused("history", *options, "app", status=2)


def test_diff_sorts_shortens_and_sums_in_bytes(pybuild: Pybuild, app: str) -> None:
    first, last = pybuild("diff", BASE, "app", "--sort", "size", "-n1").out.splitlines()
    assert first == "     +2 B  A /d/one  -rw-r--r-- 0:0 2 B"
    assert last == "3 added, 0 changed, 0 deleted; +2 B; 2 lines not shown"
    assert [(row["path"], row["growth"]) for row in rows(pybuild, "diff", "app", BASE, "--sort", "size")] == [
        ("/d/one", -2), ("/d", 0), ("/d/link", 0),
    ]  # fmt: skip
    assert rows(pybuild, "diff", BASE, "app", "--depth", "1") == [
        {"change": "A", "path": "/d/", "growth": 2, "paths": 3}
    ]
    by_layer = rows(pybuild, "diff", "--layers", BASE, "app", "--depth", "0")
    assert [row["growth"] for row in by_layer] == [8, -6]


@pytest.mark.parametrize("name", ["app:latest", "docker.io/library/app", "digest", "short digest"])
def test_an_image_is_found_by_each_of_its_names(pybuild: Pybuild, app: str, name: str) -> None:
    name = {"digest": app, "short digest": app.removeprefix("sha256:")[:12]}.get(name, name)
    assert json.loads(pybuild("inspect", name).out)["digest"] == app


# -- names


def test_images_lists_names_digests_and_sizes(pybuild: Pybuild, app: str) -> None:
    table = pybuild("images").out.splitlines()
    assert table[0].split() == ["NAME", "DIGEST", "LAYERS", "SIZE", "TAGGED", "PLATFORM"]
    assert {line.split()[0] for line in table[1:]} == {"app:latest", BASE}
    row = next(row for row in rows(pybuild, "images") if row["name"] == "app:latest")
    manifest = json.loads(pybuild("inspect", "app").out)["manifest"]
    assert (row["digest"], row["layers"]) == (app, 3)
    assert row["size"] == sum(layer["size"] for layer in manifest["layers"])


def test_a_build_can_give_several_names(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", RECIPE)
    digest = pybuild("-t", "one:1", "-t", "example.org/two/three:v2", context).out.strip()
    assert names(pybuild) == {"one:1": digest, "example.org/two/three:v2": digest, BASE: names(pybuild)[BASE]}


def test_tag_adds_a_name_and_moves_one(pybuild: Pybuild, app: str) -> None:
    pybuild("tag", "app", "other:1")
    assert names(pybuild)["other:1"] == app
    pybuild("tag", BASE, "other:1")
    assert names(pybuild)["other:1"] == names(pybuild)[BASE]
    assert names(pybuild)["app:latest"] == app


def test_rmi_removes_names_and_then_the_image(pybuild: Pybuild, app: str) -> None:
    pybuild("tag", "app", "other:1")
    assert pybuild("rmi", "other:1").out == "untagged other:1\n"
    assert set(names(pybuild)) == {"app:latest", BASE}
    assert pybuild("rmi", "app").out == f"untagged app:latest\nremoved {app}\n"
    assert set(names(pybuild)) == {BASE}
    pybuild.assert_whole()


def test_rmi_by_digest_refuses_an_image_with_several_names(pybuild: Pybuild, app: str) -> None:
    pybuild("tag", "app", "other:1")
    message = pybuild.refused("rmi", app, status=2)
    assert "app:latest" in message and "other:1" in message
    pybuild("rmi", "other:1")
    assert pybuild("rmi", app).out == f"untagged app:latest\nremoved {app}\n"


def test_rmi_takes_a_digest_without_its_algorithm(pybuild: Pybuild, app: str) -> None:
    assert pybuild("rmi", app.removeprefix("sha256:")).out == f"untagged app:latest\nremoved {app}\n"


def test_a_removed_image_still_serves_the_cache(tmp_path: Path, pybuild: Pybuild, app: str) -> None:
    pybuild("rmi", "app")
    done = pybuild("--progress=json", tmp_path / "context")
    assert set(done.finished().values()) == {True} and done.out.strip() == app


@pytest.mark.parametrize("verb", [("history",), ("inspect",), ("rmi",), ("tag", "x")], ids=lambda verb: verb[0])
def test_an_unknown_name_is_an_error(pybuild: Pybuild, verb: tuple[str, ...]) -> None:
    arguments = (verb[0], "nosuch:1", *verb[1:])
    message = pybuild.refused(*arguments)
    assert message.startswith("error: ") and "nosuch:1" in message


# -- in and out


def test_an_exported_image_can_be_imported_into_another_store(tmp_path: Path, pybuild: Pybuild, app: str) -> None:
    archive = tmp_path / "app.tar"
    pybuild("export", "app", "-o", f"type=oci,dest={archive}")
    assert read_archive(archive).digest == app
    other = Pybuild(tmp_path / "other")
    assert other("import", archive).out.strip() == app
    assert names(other) == {"app:latest": app}
    other.assert_whole()


def test_a_root_file_system_becomes_an_image(tmp_path: Path, pybuild: Pybuild) -> None:
    archive = tmp_path / "root.tar"
    archive.write_bytes(tar(entry(b"file", data=b"x"), symlink(b"link", b"file")))
    digest = pybuild("import", archive, "root:1").out.strip()
    assert names(pybuild)["root:1"] == digest
    (row,) = rows(pybuild, "history", "--files", "root:1")
    assert [change["path"] for change in row["files"]] == ["/file", "/link"]  # type: ignore[attr-defined]


def test_a_root_file_system_needs_a_name(tmp_path: Path, pybuild: Pybuild) -> None:
    archive = tmp_path / "root.tar"
    archive.write_bytes(tar(entry(b"file", data=b"x")))
    before = names(pybuild)
    assert "contains a root filesystem, which has no name\nhint: give one" in pybuild.refused("import", archive, status=2)
    assert names(pybuild) == before


def test_an_imported_image_can_have_another_name(pybuild: Pybuild, base_archive: Path) -> None:
    digest = pybuild("import", base_archive, "mine:1").out.strip()
    assert names(pybuild)["mine:1"] == digest


# -- the store


def test_the_directory_of_the_store_is_an_option_or_a_variable(tmp_path: Path, base_archive: Path) -> None:
    pybuild = Pybuild(tmp_path / "variable")
    pybuild("--root", str(tmp_path / "option"), "import", base_archive)
    assert not (tmp_path / "variable").exists()
    assert set(names(Pybuild(tmp_path / "option"))) == {BASE}


def test_fsck_reports_the_digest_of_a_damaged_blob(pybuild: Pybuild, app: str) -> None:
    layer = json.loads(pybuild("inspect", "app").out)["manifest"]["layers"][-1]["digest"]
    path = pybuild.root / "blobs" / layer.replace(":", "/")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    done = pybuild.run("fsck")
    assert done.status == 1
    assert f"damaged: blob {layer}" in done.out


def test_reset_removes_the_store(pybuild: Pybuild, app: str) -> None:
    pybuild("reset")
    assert not pybuild.root.exists()
    assert pybuild("images", "--json").out == ""
