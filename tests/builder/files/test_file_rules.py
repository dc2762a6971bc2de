"""Rules of the language about users, files and layers, tested by real builds. Ids begin with the number of the rule."""

from __future__ import annotations

import os
import socket
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.support.archive import built_layers, read_archive
from tests.support.cli import BASE, Pybuild, copy_store, write_context
from tests.support.runs import run_all

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("user", "ids"),
    [
        pytest.param("app", "1000 1000 1000 50", id="E32-a name has its groups in a RUN"),
        pytest.param("1000", "1000 1000 1000 50", id="E32-a number in passwd has its groups in a RUN"),
        pytest.param("4711", "4711 0 0", id="E32-a number that is not in passwd has group 0 in a RUN"),
        pytest.param("app:staff", "1000 50 50", id="E32-a group removes the supplementary groups"),
        pytest.param("1042:1043", "1042 1043 1043", id="E32-two unknown numbers"),
    ],
)
def test_the_identity_of_a_run(user: str, ids: str, pybuild: Pybuild, tmp_path: Path) -> None:
    said = run_all(pybuild, tmp_path / "c", {"id": "echo $(id -u) $(id -g) $(id -G)"}, before=[f"USER {user}"])
    assert said["id"].strip() == ids


ACCOUNTS = "RUN mv /etc/passwd /users && ln -s /../users /etc/passwd && echo new:x:77:78::/: >> /users"


def test_users_are_looked_up_in_the_root_filesystem_of_the_step(pybuild: Pybuild, tmp_path: Path) -> None:
    """E33-an earlier RUN can change passwd and group; a link to them does not lead out of the image."""
    said = run_all(pybuild, tmp_path / "c", {"id": "echo $(id -u) $(id -g)"}, before=[ACCOUNTS, "USER new"])
    assert said["id"] == "77 78\n"


def test_a_run_that_changes_nothing(pybuild: Pybuild, tmp_path: Path) -> None:
    """E34-it has a layer without entries, and its line in the history is not `empty_layer`."""
    image = tmp_path / "i.tar"
    pybuild("-o", f"type=oci,dest={image}", write_context(tmp_path / "c", f"FROM {BASE}\nRUN true\nENV A=b\n"))
    found = read_archive(image)
    assert len(found.layers) == 2 and found.names(1) == []
    lines = [(line["created_by"], bool(line.get("empty_layer"))) for line in found.history[-2:]]
    assert lines == [("RUN /bin/sh -c true # buildkit", False), ("ENV A=b", True)]


def test_files_of_every_kind_in_a_context(pybuild: Pybuild, tmp_path: Path) -> None:
    """E44-hard links within a source are kept, a socket becomes an empty file, a FIFO stays a FIFO."""
    context = write_context(tmp_path / "c", f"FROM {BASE}\nCOPY d /d\nCOPY d/b /b\n", d__a="same")
    os.link(context / "d/a", context / "d/b")
    os.mkfifo(context / "d/fifo")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(context / "d/socket"))
        whole, one = built_layers(pybuild, context, tmp_path)
    assert {name: (member.type, member.size) for name, member in whole.items()} == {
        "d": (tarfile.DIRTYPE, 0), "d/a": (tarfile.REGTYPE, 4), "d/b": (tarfile.LNKTYPE, 0),
        "d/fifo": (tarfile.FIFOTYPE, 0), "d/socket": (tarfile.REGTYPE, 0),
    }  # fmt: skip
    assert whole["d/b"].linkname == "d/a"
    assert {name: member.type for name, member in one.items()} == {"b": tarfile.REGTYPE}, "one of them alone is a file"


@pytest.mark.parametrize(
    ("flag", "owner"),
    [
        pytest.param("app", (1000, 1000), id="E45-a name has its own group"),
        pytest.param("55", (55, 55), id="E45-a number is both"),
        pytest.param("app:staff", (1000, 50), id="E45-two names"),
        pytest.param("7:staff", (7, 50), id="E45-a number and a name"),
        pytest.param(":50", (0, 50), id="E45-a group alone"),
    ],
)
def test_the_owner_of_a_copy(flag: str, owner: tuple[int, int], pybuild: Pybuild, tmp_path: Path) -> None:
    recipe = f"FROM {BASE}\nCOPY --chown={flag} f /new/f\nADD --chown={flag} f /added/f\n"
    for layer in built_layers(pybuild, write_context(tmp_path / "c", recipe, f="x"), tmp_path):
        assert {(member.uid, member.gid) for member in layer.values()} == {owner}


def test_names_in_chown_are_looked_up_in_the_destination(pybuild: Pybuild, tmp_path: Path) -> None:
    """E45-names are looked up in the image that the files are copied to; an unknown name is an error, not root."""
    recipe = f"FROM {BASE} AS a\nRUN echo only:x:5:5::/: >> /etc/passwd\nFROM {BASE}\nCOPY --from=a --chown=only /etc /e\n"
    assert "unable to find user only" in pybuild.refused(write_context(tmp_path / "c", recipe))


@pytest.mark.parametrize(
    ("ignored", "names"),
    [
        pytest.param("", [".dockerignore", "Buildfile", "f"], id="E56-the recipe and the ignore file are copied"),
        pytest.param("Buildfile\n.dockerignore\n", ["f"], id="E56-if ignored they are used but not copied"),
        pytest.param("*\n!f\n", ["f"], id="E56-if everything is ignored"),
    ],
)
def test_the_recipe_and_the_ignore_file_can_be_copied(
    ignored: str, names: list[str], pybuild: Pybuild, tmp_path: Path
) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nCOPY . /all/\n", f="x", **{".dockerignore": ignored})
    (layer,) = built_layers(pybuild, context, tmp_path)
    assert sorted(layer) == ["all", *(f"all/{name}" for name in names)]


@pytest.mark.parametrize("source", [pytest.param("f", id="E56-by its name"), pytest.param("d/f", id="E56-in a directory")])
def test_copying_an_ignored_file_is_an_error(source: str, pybuild: Pybuild, tmp_path: Path) -> None:
    recipe = f"FROM {BASE}\nCOPY {source} /x\n"
    context = write_context(tmp_path / "c", recipe, f="x", d__f="x", **{".dockerignore": "**/f\n"})
    assert f'Buildfile:2:1: error: "{source}": not found' in pybuild.refused(context)


@dataclass(frozen=True)
class Row:
    """A command, and the names that its layer must have."""

    command: str
    names: list[str]


BELOW = "RUN mkdir -p /d/e && echo 1 > /d/e/f && echo 2 > /d/g && touch -d @1000 /d/e/f /d/g"
LAYERS = {
    "E57-a removed file is a whiteout with its parent": Row("rm /d/g", ["d", "d/.wh.g"]),
    "E57-a removed directory is one whiteout": Row("rm -r /d/e", ["d", "d/.wh.e"]),
    "E57-no whiteout for a file that is not in the layers below": Row("touch /d/n && rm /d/n", []),
    "E57-a new directory has whiteouts for the contents of the old one": Row(
        "rm -r /d && mkdir /d && touch /d/n", ["d", "d/.wh.e", "d/.wh.g", "d/n"]
    ),
    "E57-a directory that replaces a file needs no whiteout": Row("rm /d/g && mkdir /d/g && touch /d/g/h", ["d", "d/g", "d/g/h"]),
    "E58-an entry has its parents": Row("echo 3 > /d/e/f", ["d", "d/e", "d/e/f"]),
    "E58-a parent that was only copied up is not a change": Row("touch /d/e", []),
    "E58-a file that did not change is not a change": Row("cp -p /d/g /d/c && mv /d/c /d/g", []),
    "E59-a moved directory is complete": Row("mv /d/e /d/z", ["d", "d/.wh.e", "d/z", "d/z/f"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def below(tmp_path_factory: pytest.TempPathFactory, store_with_base: Path) -> Pybuild:
    """A store in which the layers below the rows are cached after the first row."""
    root = tmp_path_factory.mktemp("rules") / "store"
    copy_store(store_with_base, root)
    return Pybuild(root)


@pytest.mark.parametrize("row", LAYERS.values(), ids=LAYERS)
def test_the_layer_of_a_run(row: Row, below: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\n{BELOW}\nRUN {row.command}\n")
    _, layer = built_layers(below, context, tmp_path)
    assert sorted(layer) == row.names
    for name, member in layer.items():
        assert not name.startswith("/") and (member.uname, member.gname) == ("", "")
        assert int(member.mtime) == member.mtime and not set(member.pax_headers) - {"path", "linkpath"}
        if ".wh." in name:
            assert (member.size, member.mtime) == (0, 0)
