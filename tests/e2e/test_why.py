"""pybuild why, --explain and --require-cached as users see them, and the example in docs/user/cache.md."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.cli import CHECKOUT, Pybuild, write_context

if TYPE_CHECKING:
    from tests.support.people import Person

RECIPE = """\
FROM pybuild.test/base AS build
COPY src /src/
RUN cat /src/* > /out
FROM pybuild.test/base
COPY --from=build /out /out
"""
SRC, COMPILE, FROM_STAGE = RECIPE.splitlines()[1], RECIPE.splitlines()[2], RECIPE.splitlines()[4]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write_context(tmp_path / "context", RECIPE, src__a="a", src__b="b")


def explained(pybuild: Pybuild) -> dict[str, dict[str, Any]]:
    """The causes that `why` prints for the last build, by instruction."""
    return {step["instruction"]: step for step in json.loads(pybuild("why", "--json").out)["steps"]}


def files(pybuild: Pybuild, instruction: str) -> dict[str, str]:
    found = explained(pybuild)[instruction]["files"]
    assert isinstance(found, list)
    return {file["path"]: file["how"] for file in found}


def build(pybuild: Pybuild, context: Path, *flags: str) -> None:
    pybuild("--network=none", *flags, context)


def test_the_example_of_the_document_is_correct(pybuild: Pybuild, tmp_path: Path) -> None:
    """Run each command in a shell and compare its output, except for times, digests and ids of builds."""
    text = (CHECKOUT / "docs" / "user" / "cache.md").read_text()
    shown = "".join(re.findall(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    environment = {**pybuild.env(), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    compared = 0
    for command, output in re.findall(r"^\$ (.*\n(?:> .*\n)*)((?:(?!\$ ).*\n)*)", shown, re.MULTILINE):
        script = re.sub(r"^> ", "", command, flags=re.MULTILINE)
        done = subprocess.run(["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert without_digests(done.stdout + done.stderr) == without_digests(output), command
        compared += output.count("\n")
    assert compared > 20


def without_digests(text: str) -> list[str]:
    text = re.sub(r"\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{4}", "BUILD", re.sub(r"[0-9a-f]{64}", "DIGEST", text))
    return text.rstrip("\n").split("\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param("echo x > src/a", {"src/a": "content"}, id="content"),
        pytest.param("printf X > src/a", {"src/a": "content"}, id="content of the same size"),
        pytest.param("chmod 4755 src/a", {"src/a": "mode 0644, now 4755"}, id="mode"),
        pytest.param("touch src/c", {"src/c": "added"}, id="added"),
        pytest.param("rm src/b", {"src/b": "removed"}, id="removed"),
        pytest.param("mv src/a src/c", {"src/a": "removed", "src/c": "added"}, id="another name"),
        pytest.param("mkdir src/.d", {"src/.d": "added"}, id="a directory"),
        pytest.param("rm src/a && ln -s b src/a", {"src/a": "file, now symlink"}, id="type"),
        pytest.param("sed -i 's/COPY src/COPY --chown=1:2 src/' Buildfile", {"src": "owner 0:0, now 1:2", "src/a": "owner 0:0, now 1:2", "src/b": "owner 0:0, now 1:2"}, id="owner"),
        pytest.param("sed -i 's/COPY src/COPY --exclude=b src/' Buildfile", {"src/b": "removed"}, id="left out"),
        pytest.param("echo 'src/b' > .dockerignore", {"src/b": "removed"}, id="ignored"),
    ],
)  # fmt: skip
def test_changed_files_of_a_copy(pybuild: Pybuild, context: Path, change: str, message: dict[str, str]) -> None:
    """The cause is the same before and after the copy."""
    for name in ("a", "b"):
        (context / "src" / name).chmod(0o644)
    build(pybuild, context)
    subprocess.run(["sh", "-ec", change], cwd=context, check=True)
    copy = (context / "Buildfile").read_text().splitlines()[1]
    done = pybuild.run("--network=none", "--require-cached", context)
    assert done.status == 3
    (line,) = [line for line in done.err.splitlines() if line.startswith(f"{context}/Buildfile:2: {copy}: ")]
    if copy == SRC:
        assert all(f"/{path}: {how}" in line for path, how in message.items()), line
    else:
        assert line.endswith(f": the instruction was {SRC}")  # files are not compared if the text of the instruction is new
    build(pybuild, context)
    assert files(pybuild, copy) == message


MOUNTS = """\
FROM pybuild.test/base AS tools
RUN mkdir -p /opt/bin && echo one > /opt/bin/cc && echo one > /opt/other
FROM pybuild.test/base
RUN true
RUN --mount=target=/src,source=src --mount=from=tools,source=/opt/bin,target=tools cat /src/a tools/cc > /out
"""
MOUNTING = MOUNTS.splitlines()[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param("echo x > src/a", {"src/a": "content"}, id="content"),
        pytest.param("chmod 4755 src/a", {"src/a": "mode 0644, now 4755"}, id="mode"),
        pytest.param("mkdir src/d && touch src/d/c", {"src/d/c": "added"}, id="added"),
        pytest.param("mv src/b src/c", {"src/b": "removed", "src/c": "added"}, id="another name"),
        pytest.param("sed -i 's/one > .opt.bin/two > \\/opt\\/bin/' Buildfile", {"tools/cc": "content"}, id="of a stage"),
    ],
)
def test_changed_files_in_the_mounts_of_a_run(
    pybuild: Pybuild, context: Path, change: str, message: dict[str, str]
) -> None:
    """With their names in the step; also before the step runs, unless they come from a stage that has not run."""
    (context / "Buildfile").write_text(MOUNTS)
    for name in ("a", "b"):
        (context / "src" / name).chmod(0o644)
    build(pybuild, context)
    subprocess.run(["sh", "-ec", change], cwd=context, check=True)
    done = pybuild.run("--network=none", "--require-cached", context)
    (line,) = [line for line in done.err.splitlines() if f": {MOUNTING[:80]}" in line]
    if "tools/cc" in message:
        assert done.status == 3 and ": reads [tools 1] RUN mkdir" in line
    else:
        assert done.status == 3 and "error: 2 steps are" not in done.err
        assert line.endswith("; ".join(["", *(f"/{path}: {how}" for path, how in sorted(message.items()))])), line
    build(pybuild, context)
    assert files(pybuild, MOUNTING) == message
    assert explained(pybuild)[MOUNTING]["causes"] == []


def test_files_outside_the_mounted_directory_are_not_reported(pybuild: Pybuild, context: Path) -> None:
    (context / "Buildfile").write_text(MOUNTS)
    build(pybuild, context)
    (context / "Buildfile").write_text(MOUNTS.replace("one > /opt/other", "two > /opt/other"))
    (context / "src" / "a").touch()
    build(pybuild, context)
    assert set(explained(pybuild)) == {MOUNTS.splitlines()[1].replace("one > /opt/other", "two > /opt/other")}


def test_a_mounted_single_file(pybuild: Pybuild, context: Path) -> None:
    (context / "Buildfile").write_text("FROM pybuild.test/base\nRUN --mount=source=src/a,target=/a cat /a\n")
    build(pybuild, context)
    (context / "src" / "a").write_text("other")
    build(pybuild, context)
    assert files(pybuild, "RUN --mount=source=src/a,target=/a cat /a") == {"a": "content"}


def test_a_named_context_as_a_base(pybuild: Pybuild, context: Path) -> None:
    (context / "Buildfile").write_text("FROM other\nWORKDIR /x\n")
    flags = ("--build-context", f"other={context / 'src'}")
    build(pybuild, context, *flags)
    (context / "src" / "a").write_text("other")
    build(pybuild, context, *flags)
    assert files(pybuild, "FROM other") == {"a": "content"}


def test_a_file_that_a_lower_layer_also_has(pybuild: Pybuild, tmp_path: Path) -> None:
    """The earlier layer does not contain the file, because a lower layer had it."""
    text = "FROM pybuild.test/base\nRUN mkdir /d && echo a > /d/a\nCOPY d /d/\n"
    context = write_context(tmp_path / "context", text, d__a="a\n", d__b="b\n")
    (context / "d" / "a").chmod(0o644)
    build(pybuild, context)
    (context / "d" / "a").write_text("other\n")
    build(pybuild, context)
    assert files(pybuild, "COPY d /d/") == {"d/a": "content"}


def test_a_linked_copy_is_compared_without_lower_layers(pybuild: Pybuild, tmp_path: Path) -> None:
    text = "FROM pybuild.test/base\nRUN true\nCOPY --link src /src/\n"
    context = write_context(tmp_path / "context", text, src__a="a")
    build(pybuild, context)
    (context / "src" / "a").write_text("b")
    (context / "Buildfile").write_text(text.replace("true", "echo x > /x"))
    build(pybuild, context)
    message = explained(pybuild)
    assert files(pybuild, "COPY --link src /src/") == {"src/a": "content"}
    assert message["COPY --link src /src/"]["causes"] == []


def test_changed_files_from_a_stage(pybuild: Pybuild, context: Path) -> None:
    build(pybuild, context)
    (context / "Buildfile").write_text(RECIPE.replace("cat /src/*", "cat /src/a"))
    build(pybuild, context)
    message = explained(pybuild)
    assert message["RUN cat /src/a > /out"]["causes"] == [f"the instruction was {COMPILE}"]
    assert files(pybuild, FROM_STAGE) == {"out": "content"}


def test_a_moved_tag_of_a_base(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    build(pybuild, context)
    other = write_context(tmp_path / "base", "FROM pybuild.test/base\nRUN echo new > /new\n")
    build(pybuild, other, "-t", "pybuild.test/base")
    build(pybuild, context)
    (cause,) = explained(pybuild)[SRC]["causes"]
    assert re.fullmatch(r"the base image changed: (\S+ sha256:\w{12}), now (?!\1)\S+ sha256:\w{12}", cause)


def test_an_evicted_record_is_reported(pybuild: Pybuild, context: Path) -> None:
    build(pybuild, context)
    pybuild("gc", "--all")
    build(pybuild, context)
    message = explained(pybuild)
    assert "evicted since build" in message[SRC]["causes"][0]
    assert message[COMPILE]["causes"] == [f"stands on [build 1] {SRC}, which is not cached"]


def test_explain_reports_at_the_end_of_successful_and_failed_builds(pybuild: Pybuild, context: Path) -> None:
    build(pybuild, context)
    done = pybuild.run("-q", "--network=none", "--explain", context)
    assert (done.status, done.err.endswith("0 of 3 steps not cached\n")) == (0, True)
    (context / "Buildfile").write_text(RECIPE.replace("cat", "false"))
    done = pybuild.run("-q", "--network=none", "--explain", context)
    assert done.status == 1
    assert f"RUN false /src/* > /out  (failed)\n    the instruction was {COMPILE}\n" in done.err
    assert f"{FROM_STAGE}  (not run)\n    reads [build 2] RUN false /src/* > /out, which is not cached\n" in done.err


def test_a_secret_in_a_variable_is_not_shown(pybuild: Pybuild, context: Path) -> None:
    for value in ("hunter1", "hunter2"):
        (context / "Buildfile").write_text(RECIPE.replace("RUN", f"ARG API_KEY={value}\nRUN"))
        build(pybuild, context)
    out = pybuild("why").out
    assert "ARG API_KEY has another value" in out and "hunter" not in out


def test_builds_are_listed_and_found_by_id(pybuild: Pybuild, context: Path) -> None:
    message = pybuild.refused("why")
    assert "the store has no record of any build" in message
    for _ in range(2):
        build(pybuild, context)
    last, first = pybuild("why", "--list").out.splitlines()
    assert (" 3/3 cached " in last, " 0/3 cached " in first) == (True, True)
    assert pybuild("why", first.split()[0]).out.startswith(f"build {first.split()[0]} of ")
    assert os.listdir(pybuild.root / "logs") and first.split()[0] in os.listdir(pybuild.root / "logs")
    assert "nothing is neither the id of a build nor an image" in pybuild.refused("why", "nothing")


# --require-cached


def test_require_cached_writes_outputs_if_everything_is_cached(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    digest = pybuild("--network=none", context).out
    output = f"type=oci,dest={tmp_path / 'image.tar'}"
    assert pybuild("--network=none", "--require-cached", "-t", "app", "-o", output, context).out == digest
    assert (tmp_path / "image.tar").exists()


def test_require_cached_runs_nothing_and_explains_misses(pybuild: Pybuild, context: Path) -> None:
    done = pybuild.run("--network=none", "--require-cached", "-t", "app", "--progress=json", context)
    assert (done.status, done.out) == (3, "")
    assert [event["event"] for event in done.events if str(event["event"]).startswith("step")] == []
    lines = [line for line in done.err.splitlines() if not line.startswith("{")]
    assert lines == [
        "error: 3 steps are not cached",
        f"{context}/Buildfile:2: {SRC}: no earlier build of this recipe is remembered",
        f"{context}/Buildfile:3: {COMPILE}: stands on [build 1] {SRC}, which is not cached",
        f"{context}/Buildfile:5: {FROM_STAGE}: reads [build 2] {COMPILE}, which is not cached",
    ]
    assert "app" not in pybuild("images").out
    pybuild.assert_whole()


def test_require_cached_fetches_no_base(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "FROM registry.invalid/base\nRUN true\n")
    done = pybuild.run("--require-cached", context)
    assert done.status == 3
    assert "Buildfile:1:6: error: registry.invalid/base:latest is not in the store and would have to be fetched" in done.err
    assert pybuild.run("--require-cached", "--pull", context).status == 2


def test_every_user_can_use_why(person: Person) -> None:
    pybuild = person.pybuild()
    context = write_context(person.home / "context", "FROM pybuild.test/base\nCOPY a /a\nWORKDIR /w\n", a="a")
    subprocess.run(["chmod", "-R", "a+rX", context], check=True)
    pybuild(context)
    (context / "a").write_text("b")
    done = pybuild.run("--require-cached", context)
    assert (done.status, "COPY a /a: /a: content" in done.err) == (3, True), shlex.join(done.err.splitlines())
    pybuild(context)
    assert files(pybuild, "COPY a /a") == {"a": "content"}
