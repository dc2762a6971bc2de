"""RUN --mount=type=bind: which files a step sees, what happens to writes, and when the step runs again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.archive import read_archive
from tests.support.cli import Pybuild, write_context
from tests.support.people import Person
from tests.support.runs import outputs

BASE = "FROM pybuild.test/base"


def run(pybuild: Pybuild, context: Path, *arguments: object) -> list[str]:
    """Build; return the lines that the steps wrote."""
    done = pybuild("--progress=json", *arguments, context)
    return "".join(outputs(done).values()).splitlines()


def cached(pybuild: Pybuild, context: Path, *arguments: object) -> list[bool]:
    """Build; return for each RUN of the recipe whether it was cached."""
    found = pybuild("--progress=json", *arguments, context).finished()
    return [was for instruction, was in found.items() if instruction.startswith("RUN")]


def test_a_mounted_context_has_the_files_that_copy_would_make(tmp_path: Path, pybuild: Pybuild) -> None:
    recipe = f"{BASE}\nRUN --mount=target=/c cd /c && find . | sort && stat -c '%a %u:%g %Y' d/f && readlink link\n"
    context = write_context(tmp_path / "c", recipe, d__f="x", d__no="x", no="x")
    (context / ".dockerignore").write_text("**/no\n")
    (context / "link").symlink_to("/etc/passwd")
    (context / "d/f").chmod(0o640)
    os.chown(context / "d/f", 1234, 1234)
    os.utime(context / "d/f", (1_600_000_000, 1_600_000_000))
    expected = [".", "./.dockerignore", "./Buildfile", "./d", "./d/f", "./link", "640 0:0 1600000000", "/etc/passwd"]
    assert run(pybuild, context) == expected


SOURCES = {
    "a directory": ("source=d,target=/t", "cat /t/f", ["one"]),
    "a file": ("source=d/f,target=/t", "cat /t", ["one"]),
    "a file over one of the image": ("source=d/f,target=/etc/passwd", "cat /etc/passwd", ["one"]),
    "a link to a file": ("source=link,target=/t", "cat /t", ["one"]),
    "an absolute path": ("source=/d/../d,target=/t", "ls /t", ["f"]),
    "a name with wildcards": ("source=[a]*?,target=/t", "cat /t", ["wild"]),
    "a relative target": ("source=d,target=t", "cat /w/t/f", ["one"]),
    "a stage": ("from=made,source=/s,target=/t", "cat /t/f", ["two"]),
    "a stage by number": ("from=0,target=/t", "cat /t/s/f", ["two"]),
    "a link of a stage, absolute": ("from=made,source=/abs/f,target=/t", "cat /t", ["two"]),
    "an image": ("from=pybuild.test/base,source=/etc,target=/t", "ls /t/passwd", ["/t/passwd"]),
    "in another mount": ("source=d,target=/m --mount=source=link,target=/m/f", "cat /m/f", ["one"]),
    "a directory that the image has": ("from=made,source=/s,target=/etc", "ls /etc | grep -v hosts | grep -v resolv", ["f"]),
}  # fmt: skip


def test_sources_and_targets(tmp_path: Path, pybuild: Pybuild) -> None:
    """One recipe has a RUN for each row."""
    made = f"{BASE} AS made\nRUN mkdir /s && echo two > /s/f && ln -s /s /abs\n"
    lines = "".join(f"RUN --mount={options} {command}\n" for options, command, _ in SOURCES.values())
    context = write_context(tmp_path / "c", f"{made}{BASE}\nWORKDIR /w\n{lines}", d__f="one\n")
    (context / "link").symlink_to("/d/f")
    (context / "[a]*?").write_text("wild\n")
    found = outputs(pybuild("--progress=json", "-o", f"type=oci,dest={tmp_path}/o.tar", context))
    seen = {what: found[f"RUN --mount={row[0]} {row[1]}"].splitlines() for what, row in SOURCES.items()}
    assert seen == {what: row[2] for what, row in SOURCES.items()}
    image = read_archive(tmp_path / "o.tar")
    assert [image.names(layer) for layer in range(2, len(image.layers))] == [[]] * len(SOURCES), "a mount point in a layer"


def test_writes_to_a_mount_are_lost_and_need_rw(tmp_path: Path, pybuild: Pybuild) -> None:
    recipe = (
        f"{BASE}\nRUN --mount=target=/c touch /c/x 2> /dev/null || echo refused\n"
        "RUN --mount=target=/c,rw echo new > /c/f && touch /c/g && cat /c/f\n"
        "RUN --mount=target=/c,rw cat /c/f && ls /c\n"
        "RUN --mount=source=f,target=/c,rw echo more >> /c && cat /c\n"
    )
    context = write_context(tmp_path / "c", recipe, f="old\n")
    found = run(pybuild, context)
    assert found == ["refused", "new", "old", "Buildfile", "f", "old", "more"]
    assert (context / "f").read_text() == "old\n"
    assert sorted(os.listdir(context)) == ["Buildfile", "f"]


def test_a_step_runs_again_when_its_mounted_files_change(tmp_path: Path, pybuild: Pybuild) -> None:
    made = f"{BASE} AS made\nARG X=1\nRUN echo $X > /other; echo same > /used\n"
    recipe = f"{made}{BASE}\nRUN --mount=from=made,source=/used,target=/u cat /u > /a\nRUN --mount=source=d,target=/d cat /d/* > /b\n"
    context = write_context(tmp_path / "c", recipe, d__f="1", beside="1")
    assert cached(pybuild, context) == [False, False, False]
    assert cached(pybuild, context) == [True, True]
    (context / "beside").write_text("2")
    os.utime(context / "d/f", (1, 1))
    assert cached(pybuild, context) == [True, True]
    # The stage is made again, but the file that is mounted from it is the same.
    assert cached(pybuild, context, "--build-arg", "X=2") == [False, True, True]
    (context / "d/f").write_text("2")
    assert cached(pybuild, context, "--build-arg", "X=2") == [True, False]
    (context / "d/f").write_text("1")
    assert cached(pybuild, context, "--build-arg", "X=2") == [True, True]


MISTAKES = {
    "source=absent,target=/t": "absent",
    "from=made,source=/absent,target=/t": "/absent, to be mounted on /t, does not exist",
    "from=made,source=/fifo,target=/t": "neither a file nor a directory",
    "from=made,source=/loop,target=/t": "too many levels of symbolic links",
    "from=later,target=/t": "stage later does not come before this one",
    "from=7,target=/t": "there is no stage 7 before this one",
    "from=made,source=/f,target=/etc": "where the step mounts a file",
    "from=made,target=/etc/passwd": "where the step mounts a directory",
    "target=/": "the root directory cannot be the target",
}


@pytest.mark.parametrize(("mount", "message"), MISTAKES.items(), ids=MISTAKES)
def test_mistakes_are_reported_at_their_line(tmp_path: Path, pybuild: Pybuild, mount: str, message: str) -> None:
    made = f"{BASE} AS made\nRUN mkfifo /fifo; ln -s loop /loop; echo > /f\n"
    context = write_context(tmp_path / "c", f"{made}{BASE}\nRUN --mount={mount} true\nFROM scratch AS later\n")
    said = pybuild.refused("--target", "1", context)
    assert f"{context}/Buildfile:4:" in said and message in said


# -- hostile recipes, stages and contexts


def test_no_link_leads_to_this_machine(person: Person) -> None:
    """CVE-2024-1753: with a link of a stage as the source, the root of the machine was mounted, writable."""
    canary = person.home / "canary"
    canary.write_text("of this machine")
    recipe = (
        f"{BASE} AS evil\nRUN ln -s / /rootdir; ln -s {canary} /leak; ln -s ../../../../../../{canary} /up\n{BASE}\n"
        "RUN --mount=from=evil,source=/rootdir,target=/e,rw touch /e/BREAKOUT && readlink /e/leak\n"
        f"RUN --mount=from=evil,target=/e cat /e{canary} /e/leak || echo nothing\n"
    )
    pybuild = person.pybuild()
    found = run(pybuild, person.context("c", recipe))
    assert found[0] == str(canary) and "nothing" in found and "of this machine" not in " ".join(found)
    assert not Path("/BREAKOUT").exists()
    for name in ("leak", "up"):
        bad = person.context(f"c-{name}", recipe + f"RUN --mount=from=evil,source=/{name},target=/x cat /x\n")
        assert "does not exist" in pybuild.refused(bad)


def test_no_link_of_a_context_leads_out_of_it(tmp_path: Path, pybuild: Pybuild) -> None:
    canary = tmp_path / "canary"
    canary.write_text("of this machine")
    context = write_context(tmp_path / "c", f"{BASE}\nRUN --mount=target=/c cat /c/out /c/dir/canary || echo nothing\n")
    (context / "out").symlink_to(canary)
    (context / "dir").symlink_to(tmp_path)
    assert "nothing" in (found := run(pybuild, context)) and "of this machine" not in found
    for source in ("out", "dir", "../canary", "dir/canary"):
        (context / "Buildfile").write_text(f"{BASE}\nRUN --mount=source={source},target=/x ls /x\n")
        assert "not found" in pybuild.refused(context)


def test_a_mount_point_that_the_step_moved_is_not_removed_by_path(tmp_path: Path, pybuild: Pybuild) -> None:
    """CVE-2024-23652: after the step the mount point was removed by its path, through a link of the step."""
    victim = tmp_path / "victim"
    (victim / "canary").mkdir(parents=True)
    recipe = f"{BASE}\nRUN --mount=source=d,target=/a/b/canary mv /a/b /a/c; ln -s {victim} /a/b; ls -l /a\n"
    context = write_context(tmp_path / "c", recipe, d__f="x")
    pybuild("-o", f"type=oci,dest={tmp_path}/o.tar", context)
    assert os.listdir(victim) == ["canary"]
    assert not any(name.startswith("a/b/canary") for name in read_archive(tmp_path / "o.tar").names(1))
