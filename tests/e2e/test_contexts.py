"""All forms of contexts: standard input, archives, and named directories and images."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from typing import TYPE_CHECKING

import pytest
import zstandard

from pybuild.store.formats import tar as tarformat
from tests.support.archive import built_layers, read_archive
from tests.support.cli import write_context
from tests.support.tars import directory, entry, hardlink, symlink, tar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.cli import Pybuild
    from tests.support.people import Person

BASE = "pybuild.test/base"
RECIPE = f"FROM {BASE}\nCOPY . /all/\n".encode()
PLAIN = tar(
    entry(b"./Buildfile", data=RECIPE),
    directory(b"./d/", mode=0o700),
    entry(b"./d/f", data=b"text", mode=0o000, uid=7, gid=8),
    hardlink(b"./d/g", b"./d/f"),
    symlink(b"./d/l", b"../../../etc/passwd"),
)
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


def layer(pybuild: Pybuild, output: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(read_archive(output).layers[-1])) as file:
        return {member.name.strip("/"): member for member in file}


@pytest.mark.parametrize("packed", PACKED)
def test_an_archive_on_standard_input_is_the_context(packed: str, pybuild: Pybuild, tmp_path: Path) -> None:
    pack = PACKED[packed]
    output = tmp_path / "out.tar"
    pybuild("-o", f"type=oci,dest={output}", "-", stdin=pack(PLAIN))
    found = layer(pybuild, output)
    assert sorted(found) == ["all", "all/Buildfile", "all/d", "all/d/f", "all/d/g", "all/d/l"]
    file, link = found["all/d/f"], found["all/d/l"]
    assert (file.mode, file.uid, file.gid, file.size) == (0, 7, 8, 4), "owners and modes are those of the archive"
    assert (found["all/d/g"].linkname, link.linkname) == ("all/d/f", "../../../etc/passwd")
    again = pybuild("--progress=json", "-", stdin=pack(PLAIN))
    assert all(again.finished().values())
    assert os.listdir(pybuild.root / "ingest") == []


def test_the_recipe_in_an_archive_can_have_any_name(pybuild: Pybuild) -> None:
    data = tar(entry(b"sub/x", data=f"FROM {BASE}\nCOPY sub/x /x\n".encode()))
    pybuild("-f", "sub/x", "-", stdin=data)
    message = pybuild.refused("-f", "other", "-", stdin=data)
    assert "cannot open other: no such file in the archive on standard input" in message
    assert "no Buildfile, Dockerfile or Containerfile in the archive on standard input" in pybuild.refused(
        "-", stdin=data
    )


def test_an_ignore_file_in_an_archive_is_an_ordinary_file(pybuild: Pybuild, tmp_path: Path) -> None:
    data = tar(entry(b"Buildfile", data=RECIPE), entry(b".dockerignore", data=b"*"))
    output = tmp_path / "out.tar"
    pybuild("-o", f"type=oci,dest={output}", "-", stdin=data)
    assert sorted(layer(pybuild, output)) == ["all", "all/.dockerignore", "all/Buildfile"]


def test_a_recipe_on_standard_input_has_no_files(pybuild: Pybuild) -> None:
    pybuild("-", stdin=f"FROM {BASE}\nENV a=b\nCOPY <<E /x\ntext\nE\nCOPY . /y/\n".encode())
    message = pybuild.refused("-", stdin=f"FROM {BASE}\nCOPY file /x\n".encode())
    assert message.splitlines()[1:3] == ['<stdin>:2:1: error: "file": not found', "    2 | COPY file /x"]


def test_a_recipe_on_standard_input_uses_the_ignore_file_of_the_directory(
    pybuild: Pybuild, tmp_path: Path
) -> None:
    context = write_context(tmp_path / "c", "no recipe", kept="", gone="", **{".dockerignore": "gone\nBuildfile\n"})
    output = tmp_path / "out.tar"
    pybuild("-f", "-", "-o", f"type=oci,dest={output}", context, stdin=RECIPE)
    assert sorted(layer(pybuild, output)) == ["all", "all/.dockerignore", "all/kept"]


@pytest.mark.parametrize(
    ("arguments", "stdin", "status", "message"),
    [
        pytest.param(("-f", "-", "-"), b"", 2, "cannot be both CONTEXT and the recipe", id="both from stdin"),
        pytest.param(("-",), b"", 1, "standard input is empty, but the context is read from it", id="nothing"),
        pytest.param(("-f", "x", "-"), b"FROM scratch", 1, "standard input is not an archive and is read as the recipe", id="two recipes"),
        pytest.param(("-",), gzip.compress(b"FROM scratch"), 1, "the compressed file is not a tar archive", id="compressed text"),
        pytest.param(("-",), gzip.compress(PLAIN)[:-20], 1, "standard input: ", id="cut"),
        pytest.param(("-",), PLAIN[:514], 1, "standard input: ", id="a cut tar"),
        pytest.param(("-",), tar(entry(b"../x")), 1, "leaves the root", id="a way out"),
        pytest.param(("-",), tar(symlink(b"l", b"/etc"), symlink(b"Buildfile", b"l/passwd")),
                     1, "Buildfile is a symbolic link to l/passwd, which is not in", id="a recipe that is a link to a file of the machine"),
        pytest.param(("-",), tar(directory(b"Buildfile/")), 1, "Buildfile is not a regular file", id="a directory"),
        pytest.param(("-",), tar(entry(b"Buildfile", data=b"x" * (4 << 20) + b"x")), 1, "exceeds the limit of 4 MiB", id="a long recipe"),
        pytest.param(("-",), tar(entry(b"Buildfile", data=RECIPE), entry(b"n", tarformat.CHAR, device=(1, 3))), 1,
                     "is a device, which cannot be copied from a context", id="a device"),
        pytest.param(("--build-context", "x", "."), b"", 2, "expected NAME=", id="no place"),
        pytest.param(("--build-context", "x=", "."), b"", 2, "expected NAME=PLACE", id="an empty place"),
        pytest.param(("--build-context", "A B=.", "."), b"", 2, "invalid image name", id="no name"),
        pytest.param(("--build-context", "x=nowhere", "."), b"", 1, "x=nowhere: no such directory", id="no directory"),
        pytest.param(("--build-context", "x=target:y", "."), b"", 1,
                     "hint: build it first with -t NAME, and give docker-image://NAME", id="a target of bake"),
        pytest.param(("-f", "https://u:p@x.test/f", "."), b"", 1, "cannot open https://xxxxx:xxxxx@x.test/f: no such file\n"
                     "hint: the recipe must be a file; to build from a URL, pipe it in", id="a recipe at a URL"),
        pytest.param(("-f", "https://x.test/f", "-"), PLAIN, 1, "hint: the recipe must be a file; to build from a URL", id="and an archive"),
    ],
)  # fmt: skip
def test_invalid_contexts_are_refused(
    arguments: tuple[str, ...], stdin: bytes, status: int, message: str, pybuild: Pybuild, tmp_path: Path
) -> None:
    write_context(tmp_path / "c", "FROM scratch\n")
    printed = pybuild.refused(*arguments, stdin=stdin, status=status, cwd=tmp_path / "c")
    assert message in printed, printed


def test_each_named_directory_has_its_own_ignore_file(pybuild: Pybuild, tmp_path: Path) -> None:
    write_context(tmp_path / "other", "", kept="", gone="", **{".dockerignore": "gone\n.dockerignore\nBuildfile\n"})
    recipe = f"FROM {BASE}\nCOPY --from=other . /other/\nCOPY . /main/\n"
    context = write_context(tmp_path / "c", recipe, gone="", **{".dockerignore": ".dockerignore\nBuildfile\n"})
    flags = ("--build-context", f"other={tmp_path / 'other'}")
    other, main = built_layers(pybuild, context, tmp_path, *flags)
    assert (sorted(other), sorted(main)) == (["other", "other/kept"], ["main", "main/gone"])
    (tmp_path / "other" / "kept").write_text("changed")
    changed = pybuild("--progress=json", *flags, context).finished()
    assert changed == {"COPY --from=other . /other/": False, "COPY . /main/": False}
    assert all(pybuild("--progress=json", *flags, context).finished().values())


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({".dockerignore": "a\n"}, ["b"], id="E53-the context's own"),
        pytest.param({".dockerignore": "a\n", "Buildfile.dockerignore": "b\n"}, ["a"], id="E53-the recipe's own wins"),
        pytest.param({"Buildfile.dockerignore": "b\n"}, ["a"], id="E53-the recipe's own alone"),
        pytest.param({"Other.dockerignore": "b\n"}, ["a", "b"], id="E53-that of another recipe does not count"),
    ],
)
def test_only_one_ignore_file_is_used(
    files: dict[str, str], expected: list[str], pybuild: Pybuild, tmp_path: Path
) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nCOPY [ab] /d/\n", a="", b="", **files)
    (layer,) = built_layers(pybuild, context, tmp_path)
    assert sorted(layer) == ["d", *(f"d/{name}" for name in expected)]


def test_a_layout_and_an_image_can_replace_a_base(pybuild: Pybuild, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    pybuild("export", BASE, "-o", f"type=oci,dest={layout},tar=false")
    recipe = b"FROM registry.invalid/x AS a\nFROM registry.invalid/y\nCOPY --from=a /etc/passwd /p\n"
    flags = ("--build-context", f"registry.invalid/x=oci-layout://{layout}:latest")
    other = ("--build-context", f"registry.invalid/y:latest=docker-image://{BASE}")
    pybuild(*flags, *other, "-", stdin=recipe)
    flags = ("--build-context", f"registry.invalid/x=oci-layout://{layout}:other")
    message = pybuild.refused(*flags, "-", stdin=b"FROM registry.invalid/x\n")
    assert "<stdin>:1:6: error: registry.invalid/x: the layout" in message and "has no image other" in message


def test_every_user_can_build_from_standard_input(person: Person) -> None:
    pybuild = person.pybuild()
    pybuild("-", stdin=PLAIN)
    pybuild("--network=none", "-", stdin=f"FROM {BASE}\nRUN true\n".encode())
    pybuild.assert_whole()
