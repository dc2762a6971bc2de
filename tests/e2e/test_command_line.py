"""The command line: working directories, caching, contexts, usage errors, output streams."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

from tests.support.archive import read_archive
from tests.support.cli import SCRIPT, Pybuild, copy_store, write_context

BASE = "FROM pybuild.test/base\n"
ENTRIES = {"the script": (SCRIPT,), "the module": (sys.executable, "-m", "pybuild")}


@pytest.fixture
def two_stores(tmp_path: Path, store_with_base: Path) -> tuple[Pybuild, Pybuild]:
    """The command with two different stores."""
    roots = tmp_path / "one", tmp_path / "other"
    for root in roots:
        copy_store(store_with_base, root)
    return Pybuild(roots[0]), Pybuild(roots[1])


# -- hostile working directories

MODULES = (
    "values/__init__.py", "parser/__init__.py", "store/__init__.py", "builder/__init__.py", "builder/sandbox/__init__.py",
    "click.py", "zstandard.py", "isal.py", "lark.py", "json.py", "signal.py", "socket.py", "sitecustomize.py", "usercustomize.py",
    "typing.py", "__future__.py",
)  # fmt: skip


@pytest.mark.parametrize("command", ENTRIES.values(), ids=ENTRIES)
def test_nothing_of_the_working_directory_is_imported(tmp_path: Path, pybuild: Pybuild, command: tuple[str, ...]) -> None:
    marker = tmp_path / "imported"
    trap = f"open({str(marker)!r}, 'a').write(__name__)\nraise SystemExit('imported')\n"
    recipe = BASE + "WORKDIR /a\nCOPY click.py .\nRUN echo made > made\n"
    context = write_context(tmp_path / "context", recipe, **dict.fromkeys(MODULES, trap))
    here = Pybuild(pybuild.root, command=command)
    here("-o", f"type=oci,dest={tmp_path / 'app.tar'},compression=zstd", ".", cwd=context)
    here("history", "--files", "pybuild.test/base", cwd=context)
    assert not marker.exists()


# -- the cache


def imported(text: str) -> set[str]:
    """The packages that -X importtime lists: pybuild's with two names (pybuild.parser), others with one."""
    lines = (line for line in text.splitlines() if line.startswith("import time:"))
    names = (line.rpartition("|")[2].strip().split(".") for line in lines)
    return {".".join(name[: 2 if name[0] == "pybuild" else 1]) for name in names}


def test_a_cached_build_imports_neither_the_grammar_nor_the_net(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", BASE + "COPY file /\nRUN echo made > /made\n", file="x")
    command = Pybuild(pybuild.root, command=(sys.executable, "-X", "importtime", "-m", "pybuild"))
    first, second = (command("--progress=json", context) for _ in range(2))
    assert set(second.finished().values()) == {True}
    assert first.out == second.out
    assert "lark" in imported(first.err)
    assert not imported(second.err) & {"lark", "rich", "requests", "urllib3", "http", "ssl", "subprocess", "tempfile", "secrets"}


@pytest.mark.parametrize("arguments", [("images",), ("gc",), ("fsck",), ("logs", "--list")], ids=lambda words: words[0])
def test_verbs_that_read_no_recipe_do_not_import_the_parser(pybuild: Pybuild, arguments: tuple[str, ...]) -> None:
    command = Pybuild(pybuild.root, command=(sys.executable, "-X", "importtime", "-m", "pybuild"))
    assert not imported(command(*arguments).err) & {"pybuild.parser", "lark"}


def test_a_cached_build_starts_no_process(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", BASE + "COPY file /\nRUN echo made > /made\n", file="x")
    arguments = ("-t", "app", "-o", f"type=oci,dest={tmp_path / 'app.tar'}", context)
    pybuild(*arguments)
    trace = tmp_path / "trace"
    Pybuild(pybuild.root, command=("strace", "-f", "-qq", "-e", "trace=execve", "-o", str(trace), SCRIPT))(*arguments)
    assert trace.read_text().count("execve(") == 1


def test_fifty_steps_leave_fifty_layers(tmp_path: Path, pybuild: Pybuild) -> None:
    names = [f"file{number}" for number in range(50)]
    context = write_context(tmp_path / "c", BASE + "".join(f"RUN echo {name} > /{name}\n" for name in names))
    pybuild("-o", f"type=oci,dest={tmp_path / 'app.tar'}", context)
    image = read_archive(tmp_path / "app.tar")
    assert [image.names(number) for number in range(1, 51)] == [[name] for name in names]
    assert len(image.layers) == 51


def test_a_change_runs_only_the_steps_that_depend_on_it(tmp_path: Path, pybuild: Pybuild) -> None:
    recipe = BASE + "RUN echo before\nCOPY file /\nRUN cat /file\n"
    context = write_context(tmp_path / "c", recipe, file="one")
    pybuild(context)
    (context / "file").write_text("two")
    assert pybuild("--progress=json", context).finished() == {
        "RUN echo before": True, "COPY file /": False, "RUN cat /file": False,
    }  # fmt: skip


def test_the_time_of_a_file_does_not_matter(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", BASE + "COPY file /\n", file="one")
    digest = pybuild(context).out
    os.utime(context / "file", (1, 1))
    done = pybuild("--progress=json", context)
    assert done.finished() == {"COPY file /": True} and done.out == digest


def test_no_cache_runs_everything(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", BASE + "RUN echo one > /file\nCOPY file /\n", file="x")
    pybuild(context)
    assert set(pybuild("--progress=json", "--no-cache", context).finished().values()) == {False}


# -- the same bytes


def test_two_stores_give_the_same_digest(tmp_path: Path, two_stores: tuple[Pybuild, Pybuild]) -> None:
    recipe = BASE + "WORKDIR /a/b\nCOPY . .\nRUN echo made > made; rm file; ln -s made link; mkdir -m 700 d; touch d/f\n"
    context = write_context(tmp_path / "c", recipe, file="x", sub__file="y")
    archives = []
    for number, pybuild in enumerate(two_stores):
        path = tmp_path / f"{number}.tar"
        pybuild("-t", "app", "-o", f"type=oci,dest={path}", context, SOURCE_DATE_EPOCH="1600000000")
        archives.append(path.read_bytes())
        for name in ("file", "sub/file", "sub"):
            os.utime(context / name, (1_700_000_000, 1_700_000_000))
    assert archives[0] == archives[1]

    image = read_archive(tmp_path / "0.tar")
    assert image.config["created"] == "2020-09-13T12:26:40Z"
    for layer in image.layers[1:]:
        with tarfile.open(fileobj=BytesIO(layer)) as tar:
            assert max(member.mtime for member in tar) <= 1_600_000_000


def test_a_build_argument_wins_over_the_environment(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", BASE + "RUN echo made > /made\n")
    output = f"type=oci,dest={tmp_path / 'app.tar'}"
    pybuild("--build-arg", "SOURCE_DATE_EPOCH=86400", "-o", output, context, SOURCE_DATE_EPOCH="1600000000")
    assert read_archive(tmp_path / "app.tar").config["created"] == "1970-01-02T00:00:00Z"


# -- contexts


def copied(pybuild: Pybuild, context: Path, *arguments: object) -> list[str]:
    """The paths that `COPY . /c/` copies."""
    archive = context.parent / "copied.tar"
    pybuild(*arguments, "-o", f"type=oci,dest={archive}", context)
    return [name.removeprefix("c/") for name in read_archive(archive).names(-1) if name != "c"]


def test_an_ignore_file_excludes_files(tmp_path: Path, pybuild: Pybuild) -> None:
    files = {"a.log": "", "keep.log": "", "b.txt": "", "sub__c.log": "", "sub__d": "", "deep__er__e.log": ""}
    context = write_context(tmp_path / "c", BASE + "COPY . /c/\n", **files)
    (context / ".dockerignore").write_text("# logs\n**/*.log\n!keep.log\nsub/d\n.dockerignore\n")
    assert copied(pybuild, context) == ["Buildfile", "b.txt", "deep", "deep/er", "keep.log", "sub"]


def test_a_recipes_own_ignore_file_comes_first(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", "", a="", b="")
    (context / "other").write_text(BASE + "COPY . /c/\n")
    (context / ".dockerignore").write_text("a\n")
    (context / "other.dockerignore").write_text("*\n!b\n")
    assert copied(pybuild, context, "-f", context / "other") == ["b"]


@pytest.mark.parametrize("name", ["Buildfile", "Dockerfile", "Containerfile"])
def test_a_recipe_has_one_of_three_names(tmp_path: Path, pybuild: Pybuild, name: str) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / name).write_text(BASE + "ENV a=b\n")
    pybuild(tmp_path / "c")


def test_only_the_target_and_its_dependencies_are_built(tmp_path: Path, pybuild: Pybuild) -> None:
    recipe = (
        f"{BASE[:-1]} AS one\nRUN echo one > /one\nFROM nosuch AS two\nRUN false\n"
        f"{BASE[:-1]} AS three\nCOPY --from=one /one /\n{BASE}RUN false\n"
    )
    context = write_context(tmp_path / "c", recipe)
    done = pybuild("--progress=json", "--target=three", context)
    assert set(done.finished()) == {"RUN echo one > /one", "COPY --from=one /one /"}


def test_build_arguments_reach_the_steps(tmp_path: Path, pybuild: Pybuild) -> None:
    recipe = BASE + "ARG A=1\nARG B=2\nARG C\nRUN echo $A $B $C\n"
    context = write_context(tmp_path / "c", recipe)
    done = pybuild("--progress=plain", "--build-arg=A=x y", "--build-arg", "C", context, C="from outside")
    assert "| x y 2 from outside\n" in done.err


def test_a_label_can_be_empty(tmp_path: Path, pybuild: Pybuild) -> None:
    """As in docker, podman and buildah."""
    pybuild("--label=a", "--label=b=", "--label=c=d=e", "-t", "labelled", write_context(tmp_path / "c", BASE))
    labels = json.loads(pybuild("inspect", "labelled").out)["config"]["config"]["Labels"]
    assert {"a": "", "b": "", "c": "d=e"}.items() <= labels.items()


# -- wrong usage

USAGE = {
    "nothing": (),
    "an unknown option": ("--nosuch", "."),
    "no context": ("build",),
    "two contexts": (".", "."),
    "an unknown network": ("--network=nosuch", "."),
    "an unknown display": ("--progress=nosuch", "."),
    "a label without a name": ("--label==a", "."),
    "an argument without a name": ("--build-arg==x", "."),
    "an unknown kind of output": ("-o", "type=nosuch,dest=x", "."),
    "an unknown compression": ("-o", "type=oci,dest=x,compression=nosuch", "."),
    "an unknown key of an output": ("-o", "type=oci,dest=x,nosuch=1", "."),
    "an option without its value": (".", "-t"),
    "import of nothing": ("import",),
    "tag without a name": ("tag", "pybuild.test/base"),
    "rmi of nothing": ("rmi",),
    "history of nothing": ("history",),
    "export to nowhere": ("export", "pybuild.test/base"),
}


def test_a_typo_is_not_taken_for_an_option_of_other_tools(tmp_path: Path, pybuild: Pybuild) -> None:
    said = pybuild.refused("--labl=a", tmp_path, status=2)
    assert "--label" in said
    assert "--unsetlabel" not in said


@pytest.mark.parametrize("arguments", USAGE.values(), ids=USAGE)
def test_wrong_usage_has_its_own_status(tmp_path: Path, pybuild: Pybuild, arguments: tuple[str, ...]) -> None:
    context = write_context(tmp_path / "c", BASE)
    done = pybuild.run(*arguments, cwd=context)
    assert done.status == 2, done.err
    assert done.out == ""
    assert done.err.startswith(("Usage: ", "Error: "))
    assert os.listdir(context) == ["Buildfile"]


@pytest.mark.parametrize("value", ["yesterday", "-1", "1.5", "9" * 12])
def test_an_invalid_time_is_wrong_usage(tmp_path: Path, pybuild: Pybuild, value: str) -> None:
    context = write_context(tmp_path / "c", BASE)
    done = pybuild.run(context, SOURCE_DATE_EPOCH=value)
    assert (done.status, f"SOURCE_DATE_EPOCH={value}" in done.err) == (2, True)


# -- names with control bytes

ESCAPE = "\x1b[31m\x07"
TERMINAL = {
    "a context": (f"no{ESCAPE}such",),
    "a recipe": ("-f", f"no{ESCAPE}such", "."),
    "a target": (f"--target=no{ESCAPE}such", "."),
    "a name": ("-t", f"no{ESCAPE}such", "."),
    "an output": ("-o", f"type=oci,dest=no{ESCAPE}such/x", "."),
    "an archive": ("import", f"no{ESCAPE}such"),
    "an image": ("history", f"no{ESCAPE}such"),
    "an image to be removed": ("rmi", f"no{ESCAPE}such"),
    "a command": (f"no{ESCAPE}such", "--nosuch"),
}


@pytest.mark.parametrize("arguments", TERMINAL.values(), ids=TERMINAL)
def test_messages_contain_no_control_characters(tmp_path: Path, pybuild: Pybuild, arguments: tuple[str, ...]) -> None:
    context = write_context(tmp_path / "c", BASE + "ENV a=b\n")
    done = pybuild.run(*arguments, cwd=context)
    assert done.status in (1, 2)
    assert "\x1b" not in done.err and "\x07" not in done.err
    assert "Traceback" not in done.err


RECIPES = {
    "an instruction": f"{BASE}CO{ESCAPE}PY a b\n",
    "a source": f"{BASE}COPY no{ESCAPE}such /\n",
    "an image": f"FROM no{ESCAPE}such\n",
    "a stage": f"{BASE}COPY --from=no{ESCAPE}such a b\n",
    "a user": f"{BASE}USER no{ESCAPE}such\nRUN true\n",
    "a program": f'{BASE}RUN ["no\\u001b[31msuch"]\n',
    "a step": f"{BASE}RUN : {ESCAPE}; false\n",
    "a directory": f"{BASE}WORKDIR /bin/sh/{ESCAPE}\nRUN true\n",
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_errors_of_recipes_contain_no_control_characters(tmp_path: Path, pybuild: Pybuild, recipe: str) -> None:
    message = pybuild.refused(".", cwd=write_context(tmp_path / "c", recipe))
    assert "\x1b" not in message and "\x07" not in message


def test_names_of_files_contain_no_control_characters_when_shown(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", BASE + "COPY . /\n")
    os.mkfifo(context / "fifo")
    (context / f".wh.{ESCAPE}").touch()
    message = pybuild.refused(".", cwd=context)
    assert ".wh." in message and "\x1b" not in message


# -- the streams


def test_a_closed_pipe_gives_no_traceback(pybuild: Pybuild) -> None:
    command = f"{SCRIPT} history --files pybuild.test/base | true"
    done = subprocess.run(["sh", "-c", command], env=pybuild.env(), capture_output=True, text=True)
    assert done.stderr == ""


def test_version_is_shown(pybuild: Pybuild) -> None:
    assert pybuild("--version").out.startswith("pybuild, version ")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(pybuild: Pybuild, tmp_path: Path, closed: str) -> None:
    """No file of the store gets the number of a stream, so no message can end up in it."""
    context = write_context(tmp_path / "c", f"{BASE}COPY Buildfile /\nRUN echo 1 > /f\n")
    in_shell = replace(pybuild, command=("sh", "-c", f'"$0" "$@" {closed}', *pybuild.command))
    in_shell("--progress=plain", "-t", "app", context)
    assert "app:latest" in pybuild("images").out
    pybuild.assert_whole()
