"""Invalid input: the error messages, and that the store and outputs of earlier builds stay intact."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import pytest

from tests.support.archives import Archive
from tests.support.cli import Pybuild, copy_store, write_context
from tests.support.disks import small_disk
from tests.support.people import Person
from tests.support.tars import directory, entry, tar

BASE = "FROM pybuild.test/base\n"
NOTE = "note: RUN steps use the network of this machine; --network=none gives them none"
PREVIOUS = b"the archive of an earlier build"


# -- recipes

RECIPES = {
    "a misspelt instruction": (
        BASE + "CPOY a b\n",
        "Buildfile:2:1: error: unknown instruction CPOY\n    2 | CPOY a b\n      | ^\nhint: did you mean COPY?\n",
    ),
    "a RUN that fails": (
        BASE + "ENV A=b\n\nRUN exit 7\n",
        "Buildfile:4:1: error: RUN exited with status 7\n    4 | RUN exit 7\n      | ^\n",
    ),
    "a RUN that is killed": (
        BASE + "RUN kill -9 $$\n",
        "Buildfile:2:1: error: RUN was ended by signal SIGKILL\n    2 | RUN kill -9 $$\n      | ^\n",
    ),
    "a program that the image lacks": (
        BASE + 'RUN ["/no/such", "x"]\n',
        'Buildfile:2:1: error: /no/such: not found in the image\n    2 | RUN ["/no/such", "x"]\n      | ^\n',
    ),
    "a program that is none": (
        BASE + 'RUN ["/etc/passwd"]\n',
        'Buildfile:2:1: error: /etc/passwd: cannot be executed as user 0\n    2 | RUN ["/etc/passwd"]\n      | ^\n',
    ),
    "an unknown user": (
        BASE + "USER nosuch\nRUN true\n",
        "Buildfile:3:1: error: unable to find user nosuch: no matching entries in /etc/passwd\n"
        "    3 | RUN true\n      | ^\nhint: create it in a RUN, or use a number\n",
    ),
    "an unknown owner": (
        BASE + "COPY --chown=root:nosuch Buildfile /\n",
        "Buildfile:2:1: error: unable to find group nosuch: no matching entries in /etc/group\n"
        "    2 | COPY --chown=root:nosuch Buildfile /\n      | ^\nhint: create it in a RUN, or use a number\n",
    ),
    "a source that is not there": (
        BASE + "COPY missing /\n",
        'Buildfile:2:1: error: "missing": not found\n    2 | COPY missing /\n      | ^\n'
        "hint: it does not exist in the source, or an ignore file excludes it\n",
    ),
    "a source with a mistake in its name": (
        BASE + "COPY Buildfiel /\n",
        'Buildfile:2:1: error: "Buildfiel": not found\n    2 | COPY Buildfiel /\n      | ^\n'
        'hint: did you mean "Buildfile"? it does not exist in the source, or an ignore file excludes it\n',
    ),
    "a source above the context": (
        BASE + "COPY a/../../b /\n",
        'Buildfile:2:1: error: "b": not found\n    2 | COPY a/../../b /\n      | ^\n'
        "hint: `..` does not lead out of the context: build with a directory above it, or give the other one a name with "
        "--build-context NAME=DIRECTORY and COPY --from=NAME\n",
    ),
    "a source that `..` leads back to": (
        BASE + "COPY a/../b /\n",
        'Buildfile:2:1: error: "b": not found\n    2 | COPY a/../b /\n      | ^\n'
        "hint: it does not exist in the source, or an ignore file excludes it\n",
    ),
    "an image that is not there": (
        "FROM localhost:1/nosuch\n",
        "Buildfile:1:6: error: localhost:1/nosuch: localhost:1: no connection: Connection refused\n"
        "    1 | FROM localhost:1/nosuch\n      |      ^\n",
    ),
    "bytes that are no text": (BASE + "RUN \udcff\n", "Buildfile:2:5: error: invalid UTF-8\n    2 | RUN \\xff\n      |     ^\n"),
}  # fmt: skip


@pytest.mark.parametrize(("recipe", "message"), RECIPES.values(), ids=RECIPES)
def test_an_invalid_recipe_is_reported_with_its_position(tmp_path: Path, pybuild: Pybuild, recipe: str, message: str) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Buildfile").write_bytes(recipe.encode("utf-8", "surrogateescape"))
    output = tmp_path / "app.tar"
    output.write_bytes(PREVIOUS)
    printed = pybuild.refused("-t", "app", "-o", f"type=oci,dest={output}", ".", cwd=context)
    assert message in printed
    # Only a hint can follow the message.
    assert printed.partition(message)[2].count("\n") <= 1
    assert output.read_bytes() == PREVIOUS
    assert sorted(os.listdir(tmp_path)) == ["app.tar", "context", "store"]
    assert "app" not in pybuild("images").out


def test_a_failing_run_shows_its_output_first(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", BASE + "RUN echo out; echo err >&2; printf unfinished; exit 7\n")
    printed = pybuild.refused(".", "--network=none", cwd=context)
    first, *output, error, excerpt, caret = printed.splitlines()
    assert first == "[stage-0 1/1] RUN echo out; echo err >&2; printf unfinished; exit 7"
    # Two pipes: only the order within each one is certain.
    assert sorted(line.rpartition(" | ")[2] for line in output) == ["err", "out", "unfinished"]
    assert all(re.match(r"\[stage-0 1/1\] \d+\.\d s \| ", line) for line in output)
    assert error == "Buildfile:2:1: error: RUN exited with status 7"
    assert excerpt.endswith("| RUN echo out; echo err >&2; printf unfinished; exit 7")
    assert caret == "      | ^"


def test_a_failing_run_shows_its_output_when_quiet(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", BASE + "RUN echo before\nRUN echo what went wrong; false\n")
    printed = pybuild.refused("-q", ".", cwd=context)
    assert printed.splitlines()[:2] == ["what went wrong", "Buildfile:3:1: error: RUN exited with status 1"]


def test_steps_before_a_failure_are_cached(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", BASE + "RUN echo one > /one\nRUN false\n")
    pybuild.refused(context)
    (context / "Buildfile").write_text(BASE + "RUN echo one > /one\nRUN true\n")
    assert pybuild("--progress=json", context).finished() == {"RUN echo one > /one": True, "RUN true": False}


def test_nothing_runs_when_a_later_line_is_wrong(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", BASE + "RUN echo ran\nCOPY --from=nosuch a b\n")
    printed = pybuild.refused(".", cwd=context)
    assert printed.startswith("Buildfile:3:") and "RUN" not in printed


# -- recipes and contexts that cannot be read


def test_no_recipe(tmp_path: Path, pybuild: Pybuild) -> None:
    (tmp_path / "c").mkdir()
    assert pybuild.refused("c", cwd=tmp_path) == (
        "error: no Buildfile, Dockerfile or Containerfile in c\nhint: name the recipe with -f\n"
    )


def test_a_missing_named_recipe(tmp_path: Path, pybuild: Pybuild) -> None:
    (tmp_path / "c").mkdir()
    assert pybuild.refused("-f", "c/nosuch", "c", cwd=tmp_path) == "error: cannot open c/nosuch: no such file\n"
    assert pybuild.refused("-f", "nosuch", "c", cwd=tmp_path) == "error: cannot open nosuch: no such file\n"


@pytest.mark.parametrize("where", ["inside of the context", "outside of the context"])
@pytest.mark.parametrize("kind", ["directory", "FIFO", "device"])
def test_a_recipe_that_is_not_a_file(tmp_path: Path, pybuild: Pybuild, kind: str, where: str) -> None:
    context = tmp_path / "c"
    context.mkdir()
    recipe = (context if where.startswith("inside") else tmp_path) / "recipe"
    match kind:
        case "directory":
            recipe.mkdir()
        case "FIFO":
            os.mkfifo(recipe)
        case _:
            os.mknod(recipe, 0o20666, os.makedev(1, 5))
    assert pybuild.refused("-f", recipe, "c", cwd=tmp_path) == f"error: {recipe} is not a regular file\n"


def test_a_default_recipe_that_is_a_fifo(tmp_path: Path, pybuild: Pybuild) -> None:
    (tmp_path / "c").mkdir()
    os.mkfifo(tmp_path / "c" / "Buildfile")
    assert "is not a regular file" in pybuild.refused("c", cwd=tmp_path)


def test_an_endless_recipe(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", "")
    with open(context / "Buildfile", "wb") as file:
        file.truncate(1 << 40)
    assert pybuild.refused(context).startswith("error: Buildfile exceeds the limit of 4 MiB\nhint: raise the limit recipe-bytes")


def test_a_recipe_outside_its_context(tmp_path: Path, pybuild: Pybuild) -> None:
    context = tmp_path / "c"
    context.mkdir()
    (tmp_path / "secret").write_text("the content of a file of this machine\n")
    (context / "Buildfile").symlink_to("../secret")
    printed = pybuild.refused(context)
    assert "content" not in printed


@pytest.mark.parametrize(
    ("context", "reason"), [("nosuch", "No such file or directory"), ("file", "Not a directory")], ids=["none", "file"]
)
def test_a_context_that_cannot_be_opened(tmp_path: Path, pybuild: Pybuild, context: str, reason: str) -> None:
    (tmp_path / "file").write_text(BASE)
    assert pybuild.refused(context, cwd=tmp_path) == (
        f"error: cannot open the context {context}: {reason}\nhint: it must be a directory\n"
    )


@pytest.mark.parametrize("person", ["single"], indirect=True)
@pytest.mark.parametrize(
    ("closed", "message"),
    [
        ("", "error: cannot open the context {context}: Permission denied\n"),
        ("secret", 'Buildfile:2:1: error: cannot read "secret" of the context: Permission denied\n'),
        ("sub", 'Buildfile:2:1: error: cannot read the directory "sub" of the context: Permission denied\n'),
    ],
    ids=["the context", "a file", "a directory"],
)
def test_unreadable_files_are_errors(person: Person, closed: str, message: str) -> None:
    context = person.context("closed", "FROM scratch\nCOPY . /\n", secret="x")
    (context / "sub").mkdir()
    (context / "sub" / "file").touch()
    (context / closed).chmod(0o700 if (context / closed).is_dir() else 0o600)
    printed = person.pybuild().refused(context)
    assert message.format(context=context) in printed
    # An ignore file can exclude it.
    if closed:
        (context / ".dockerignore").write_text(f"{closed}\n")
        person.pybuild()(context)


def test_a_device_in_the_context(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", BASE + "COPY . /\n")
    os.mknod(context / "zero", 0o20666, os.makedev(1, 5))
    printed = pybuild.refused(".", cwd=context)
    assert "Buildfile:2:1: error: " in printed and "zero" in printed


def test_an_ignore_file_outside_the_context(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", BASE + "COPY . /\n")
    (tmp_path / "secret").write_text("[a-\n")
    (context / ".dockerignore").symlink_to("../secret")
    assert pybuild.refused(context) == (
        "error: ignore file .dockerignore: a symbolic link to ../secret, which is not in the context\n"
        "hint: links are followed inside the context only\n"
    )


# -- archives

ARCHIVES = {
    "an entry outside of the root": (
        Archive(layers=[tar(entry(b"../x", data=b"1"))]),
        "error: layer {layer}: entry \"../x\": leaves the root\nhint: the layer is damaged or hostile\n",
    ),
    "control bytes in a name": (
        Archive(layers=[tar(entry(b"a\x1b[31m\n/../x", data=b"1"))]),
        'error: layer {layer}: entry "a\\x1b[31m\\x0a/../x": leaves the root\nhint: the layer is damaged or hostile\n',
    ),
    "a layer with a wrong digest": (Archive(spoil="layer", compress=False), "error: layer {layer}: "),
    "a config with a wrong digest": (Archive(spoil="config"), ": the bytes do not match the digest\n"),
    "a layer that is missing": (
        Archive(lose="layer"),
        "the archive has no blob {layer}\nhint: it is incomplete; fetch it again\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("archive", "message"), ARCHIVES.values(), ids=ARCHIVES)
def test_a_damaged_archive_is_refused(tmp_path: Path, pybuild: Pybuild, archive: Archive, message: str) -> None:
    path = tmp_path / "archive.tar"
    path.write_bytes(archive.data())
    before = pybuild("images").out
    printed = pybuild.refused("import", path)
    assert message.format(layer=layer_digest(archive)) in printed
    assert printed.startswith("error: ") and "\x1b" not in printed
    assert pybuild("images").out == before


def layer_digest(archive: Archive) -> str:
    return "sha256:" + hashlib.sha256(archive.blob_of_layer(archive.layers[0])).hexdigest()


@pytest.mark.parametrize("lost", [1600, 3000, 1_000_000], ids=lambda count: f"{count} bytes short")
def test_a_truncated_archive_is_refused(tmp_path: Path, pybuild: Pybuild, lost: int) -> None:
    path = tmp_path / "archive.tar"
    data = Archive(layers=[tar(entry(b"f", data=os.urandom(1_500_000)))]).data()
    path.write_bytes(data[:-lost])
    printed = pybuild.refused("import", path)
    assert "truncated after" in printed and printed.endswith("hint: the file is incomplete; fetch it again\n")


def test_the_tar_of_a_root_with_paths_outside_it(tmp_path: Path, pybuild: Pybuild) -> None:
    path = tmp_path / "root.tar"
    path.write_bytes(tar(directory(b"etc/"), entry(b"../x", data=b"1")))
    printed = pybuild.refused("import", path, "root:1")
    assert printed == 'error: entry "../x": leaves the root\nhint: the layer is damaged or hostile\n'
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nosuch.tar",), "error: nosuch.tar: No such file or directory\n"),
        (
            (".",),
            "error: the directory . is not an OCI layout: it has no file oci-layout\n"
            "hint: import a root filesystem as a tar: tar -C DIR -c . | pybuild import - NAME\n",
        ),
        (("empty.tar",), "error: the archive is empty\n"),
        (("empty.tar", "Bad Name"), "error: invalid image name 'Bad Name'\nhint: image names must be in lower case\n"),
    ],
    ids=["no file", "a directory", "an empty file", "a bad name"],
)
def test_files_that_import_cannot_read(
    tmp_path: Path, pybuild: Pybuild, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "empty.tar").touch()
    assert pybuild.refused("import", *arguments, cwd=tmp_path) == message


# -- outputs


@pytest.mark.parametrize(
    ("destination", "message"),
    [
        ("nosuch/app.tar", "error: cannot write nosuch/app.tar: {directory}/nosuch does not exist\n"),
        ("c/Buildfile/app.tar", "error: cannot write c/Buildfile/app.tar: {directory}/c/Buildfile is not a directory\n"),
        ("taken", "error: cannot write taken: it is a directory\nhint: with this type, dest= names a file\n"),
    ],
    ids=["in no directory", "below a file", "over a directory"],
)
def test_an_output_that_cannot_be_written(tmp_path: Path, pybuild: Pybuild, destination: str, message: str) -> None:
    write_context(tmp_path / "c", BASE + "ENV a=b\n")
    (tmp_path / "taken").mkdir()
    printed = pybuild.refused("-o", f"type=oci,dest={destination}", "c", cwd=tmp_path)
    assert printed == message.format(directory=tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["c", "store", "taken"]


# -- full disks


def test_an_output_on_a_full_disk(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", BASE + "ENV a=b\n")
    with small_disk(tmp_path / "disk", "size=64k") as disk:
        output = disk / "app.tar"
        output.write_bytes(PREVIOUS)
        printed = pybuild.refused("-o", f"type=oci,dest={output}", context)
        assert f"error: {output}: No space left on device (" in printed
        assert f" free on {disk})\nhint: choose another destination, or free space there\n" in printed
        assert output.read_bytes() == PREVIOUS
        assert os.listdir(disk) == ["app.tar"]


@pytest.mark.parametrize("kind", ["oci", "docker", "tar", "local", "layout"])
def test_an_export_onto_a_full_disk_leaves_nothing(tmp_path: Path, pybuild: Pybuild, kind: str) -> None:
    form = "type=oci,tar=false" if kind == "layout" else f"type={kind}"
    with small_disk(tmp_path / "disk", "size=300k") as disk:
        printed = pybuild.refused("export", "pybuild.test/base", "-o", f"{form},dest={disk}/out")
        assert printed.startswith(f"error: {disk}/out: No space left on device (")
        assert os.listdir(disk) == []


FULL = "Buildfile:2:1: error: the store {store}: No space left on device ("
STEPS = {
    "COPY": ("COPY file /\n", FULL),
    "RUN": ("RUN head -c 20000000 /dev/urandom > /file\n", "hint: the disk of the store {store} is full (0 B and "),
    "the layer of a RUN": ("RUN head -c 5000000 /dev/urandom > /file\n", FULL),
}  # fmt: skip


@pytest.mark.parametrize(("step", "message"), STEPS.values(), ids=STEPS)
def test_a_store_works_again_after_a_full_disk(
    tmp_path: Path, store_with_base: Path, step: str, message: str
) -> None:
    context = write_context(tmp_path / "c", BASE + step, file=os.urandom(20_000_000))
    with small_disk(tmp_path / "disk", "size=12m") as disk:
        pybuild = Pybuild(disk / "store")
        copy_store(store_with_base, pybuild.root)
        printed = pybuild.refused(".", cwd=context)
        assert message.format(store=pybuild.root) in printed
        assert f" free on {disk})" in printed and "pybuild gc --all frees space" in printed
        (context / "Buildfile").write_text(BASE + "RUN echo small > /file\n")
        pybuild(context)
        pybuild.assert_whole()


def test_a_build_that_asks_for_more_space_than_is_free(tmp_path: Path, store_with_base: Path) -> None:
    context = write_context(tmp_path / "c", BASE + "RUN echo ran > /file\n")
    with small_disk(tmp_path / "disk", "size=16m") as disk:
        pybuild = Pybuild(disk / "store")
        copy_store(store_with_base, pybuild.root)
        printed = pybuild.refused("--require-space=50m", context)
        assert printed.startswith("error: --require-space: 52.4 MB is more than what is left: ")
        assert f" free on {disk}\nhint: pybuild gc --all frees space" in printed
        pybuild("--require-space=1m", context)
    assert "--require-space: " in pybuild.refused("--require-space=many", context, status=2)


@pytest.mark.parametrize("options", ["size=600k", "nr_inodes=25"], ids=["of few bytes", "of few inodes"])
def test_an_import_onto_a_full_disk(tmp_path: Path, options: str) -> None:
    members = [entry(b"f%d" % number, data=os.urandom(1 << 20)) for number in range(2)]
    path = tmp_path / "archive.tar"
    path.write_bytes(Archive(layers=[tar(member) for member in members * 8]).data())
    with small_disk(tmp_path / "disk", options) as disk:
        pybuild = Pybuild(disk / "store")
        printed = pybuild.run("import", path)
        assert (printed.status, "Traceback" in printed.err) == (1, False)
        assert "no space left" in printed.err.lower()
        pybuild.assert_whole()
        assert len(pybuild("images", "--json").out) == 0


def test_a_source_removed_from_the_context(pybuild: Pybuild, tmp_path: Path) -> None:
    """The store has a record of the step, but later stages have no known base yet."""
    recipe = f"{BASE.strip()} AS a\nCOPY file /\n{BASE}COPY other /\nCOPY --from=a /file /\n"
    context = write_context(tmp_path / "context", recipe, file="x", other="y")
    pybuild(context)
    (context / "file").unlink()
    assert "Buildfile:2:1: error:" in pybuild.refused(context)


def test_the_platform_of_an_image_sends_nothing_to_the_terminal(tmp_path: Path, pybuild: Pybuild) -> None:
    path = tmp_path / "archive.tar"
    path.write_bytes(Archive(config_fields={"architecture": "x\x1b[31m\nred\x9b"}).data())
    platform = "linux/x\\x1b[31m\\x0ared\\x9b"
    pybuild("import", path, "hostile:1", "--all-platforms")
    pybuild("index", "create", "hostile:2", "hostile:1")
    assert pybuild("images").out.count(f"  {platform}\n") == 2
    assert f"it has one for {platform}" in pybuild.refused("index", "rm", "hostile:2", "linux/s390x")


def test_two_results_in_one_file(pybuild: Pybuild, tmp_path: Path) -> None:
    context, path = write_context(tmp_path / "c", "FROM scratch\nLABEL a=b\n"), str(tmp_path / "x")
    for one, other in (
        (f"--report={path}", f"--explore={tmp_path}/./x"),
        (f"--iidfile={path}", f"--metadata-file={path}"),
        (f"-otype=oci,dest={path}", f"--iidfile={path}"),
        (f"-otype=oci,dest={path}", f"-otype=tar,dest={path}"),
    ):
        done = pybuild.run(one, other, context)
        assert done.status == 2 and "name the same file" in done.err and not os.path.lexists(path)
    pybuild("-q", "--iidfile=/dev/null", "--metadata-file=/dev/null", context)


def test_help_of_commands_of_commands(pybuild: Pybuild) -> None:
    assert pybuild("help", "index", "create").out == pybuild("index", "create", "--help").out
    assert "build has no commands of its own" in pybuild.run("help", "build", "x").err
    assert "x: there is no such command; expected add, create" in pybuild.run("help", "index", "x").err
