"""Warnings as users see them: during a build, with --check, and as errors if the recipe asks for that."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.support.cli import BASE, SCRIPT, Pybuild, write_context
from tests.support.people import forget, make_person

RECIPE = f"FROM {BASE} as first\nENV a b\nCMD echo $a\n"
SAID = [
    "1:1: warning: FromAsCasing: 'as' and 'FROM' keywords' casing do not match",
    '2:1: warning: LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format',
    "3:1: warning: JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write_context(tmp_path / "context", RECIPE)


def warnings_in(said: str) -> list[str]:
    return [line for line in said.splitlines() if "Buildfile:" in line]


def test_a_build_shows_warnings_and_continues(pybuild: Pybuild, context: Path) -> None:
    done = pybuild(context)
    assert warnings_in(done.err) == [f"{context}/Buildfile:{line}" for line in SAID]
    assert done.out.startswith("sha256:")
    assert warnings_in(pybuild(context).err) == warnings_in(done.err), "also where the cache has all of it"
    assert pybuild("-q", context).err == ""


def test_warnings_are_events(pybuild: Pybuild, context: Path) -> None:
    _, first, *_ = pybuild("--progress=json", context).events
    assert {key: first[key] for key in ("event", "rule", "file", "line", "column")} == {
        "event": "warning", "rule": "FromAsCasing", "file": f"{context}/Buildfile", "line": 1, "column": 1,
    }  # fmt: skip


def test_check_lists_warnings_and_runs_nothing(pybuild: Pybuild, context: Path) -> None:
    (context / "Buildfile").write_text(f"FROM {BASE} AS unused\nMAINTAINER me\n{RECIPE}RUN exit 1\n")
    done = pybuild.run("build", "--check", "-t", "none", context)
    assert (done.status, done.err) == (1, "")
    lines = done.out.splitlines()
    assert [line.split(": ")[2] for line in lines if ": warning: " in line] == [
        "MaintainerDeprecated", "FromAsCasing", "LegacyKeyValueFormat", "JSONArgsRecommended",
    ]  # fmt: skip
    assert lines[1:3] == ["    2 | MAINTAINER me", "      | ^"]
    assert lines[-1] == "Check complete, 4 warnings found."
    assert pybuild("images").out.count("none") == 0
    events = pybuild.run("--check", "--progress=json", context).events
    assert [event["event"] for event in events] == ["build_started", *["warning"] * 4]
    pybuild.assert_whole()


def test_check_of_a_recipe_without_warnings(pybuild: Pybuild, context: Path) -> None:
    done = pybuild("--check", "--build-arg=BUILDKIT_DOCKERFILE_CHECK=skip=all", context)
    assert (done.out, done.err) == ("Check complete, no warnings found.\n", "")


def test_check_needs_no_base_image(pybuild: Pybuild, context: Path) -> None:
    (context / "Buildfile").write_text("FROM nowhere.test/image\nENV a=$b\nCOPY --from=other.test/x / /\nWORKDIR c\n")
    done = pybuild.run("--check", context)
    assert done.status == 1
    assert "WorkdirRelativePath" in done.out and "UndefinedVar" not in done.out
    assert done.err.splitlines() == [
        "note: nowhere.test/image is not in the store, so its environment is not known",
        "note: other.test/x is not in the store, so its environment is not known",
    ]


def test_a_line_that_needs_a_missing_base_does_not_end_the_check(pybuild: Pybuild, context: Path) -> None:
    (context / "Buildfile").write_text("FROM nowhere.test/image\nVOLUME $APP\nMAINTAINER a\nSTOPSIGNAL SIGNO\nVOLUME it's\n")
    done = pybuild.run("--check", context)
    assert done.status == 1
    assert [line.split(": ")[2] for line in done.out.splitlines() if ": warning: " in line] == ["MaintainerDeprecated"]
    assert done.out.splitlines()[-1] == "Check complete, 2 errors and 1 warning found."
    assert [line.removeprefix(f"{context}/Buildfile:") for line in done.err.splitlines() if not line.startswith(" ")] == [
        "note: nowhere.test/image is not in the store, so its environment is not known",
        "note: line 2 is not judged, because the value of $APP is not known",
        "4:12: error: STOPSIGNAL SIGNO: no such signal",
        "hint: a name such as SIGTERM, or a number",
        "5:8: error: unexpected end of the word while looking for a matching single quote",
    ]


@pytest.mark.parametrize(
    ("recipe", "status", "told"),
    [
        ("WORKDIR $APP\nENV a=$b", 0, ()),
        ("ENV a=$UNSET", 0, ("line 2, found with the bases of the store: UndefinedVar: ",)),
        ("ENV a b", 1, ()),
        ("WORKDIR $APP\nSTOPSIGNAL SIGNO", 1, ()),
        ("COPY --chmod=$MODE a /b\nCOPY --chmod=9 a /b", 1, ()),
        ("COPY --chmod=$APP Buildfile /b", 0, ("line 2, found with the bases of the store: ",)),
        ("ENTRYPOINT x", 1, ("line 2, not found with the bases of the store: JSONArgsRecommended",)),
        ("RUN true", 0, ("line 1, found with the bases of the store: InvalidBaseImagePlatform: ",)),
    ],
)
def test_findings_and_status_of_a_check_do_not_depend_on_the_store(
    pybuild: Pybuild, context: Path, recipe: str, status: int, told: tuple[str, ...]
) -> None:
    """The base sets all that the recipes use, and a SHELL; for the last recipe it is for another platform."""
    platform = ("--platform=linux/s390x",) if recipe == "RUN true" else ()
    sets_all = write_context(context.parent / "all", 'FROM scratch\nENV APP=/a b=c MODE=700\nSHELL ["/bin/sh", "-c"]\n')
    (context / "Buildfile").write_text(f"FROM local.test/all\n{recipe}\n")
    without = pybuild.run("--check", context)
    assert without.status == status
    pybuild(*platform, "-t", "local.test/all", sets_all)
    done = pybuild.run("--check", context)
    assert (done.status, done.out) == (status, without.out)
    notes = [line.removeprefix("note: ") for line in done.err.splitlines() if line.startswith("note: line ")]
    assert len(notes) == len(told) and all(map(str.startswith, notes, told)), notes


def test_check_reports_errors_too(pybuild: Pybuild, context: Path) -> None:
    (context / "Buildfile").write_text(f"FROM {BASE} AS unused\nWORKDIR it's\nFROM {BASE}\n")
    assert f"{context}/Buildfile:2:9: error: " in pybuild.refused("--check", context)


def test_check_of_a_target_leaves_out_other_stages(pybuild: Pybuild, context: Path) -> None:
    (context / "Buildfile").write_text(f"FROM {BASE} AS first\nWORKDIR it's\nFROM {BASE} AS second\nCMD x\n")
    done = pybuild.run("--check", "--target=second", context)
    assert (done.status, done.err) == (1, "")
    assert done.out.splitlines()[-1] == "Check complete, 1 warning found."


@pytest.mark.parametrize("how", ["directive", "argument"])
def test_warnings_fail_the_build_on_request(pybuild: Pybuild, context: Path, how: str) -> None:
    if how == "directive":
        (context / "Buildfile").write_text(f"# check=error=true\n{RECIPE}RUN exit 7\n")
        message = pybuild.refused(context)
    else:
        message = pybuild.refused("--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=true", context)
    *warnings, error, hint = message.splitlines()
    assert len(warnings) == 3 and all(": warning: " in line for line in warnings)
    assert error == "error: lint violation found for rules: FromAsCasing, JSONArgsRecommended, LegacyKeyValueFormat"
    assert hint.startswith("hint: ")


def test_check_works_without_namespaces(base_archive: Path) -> None:
    person = make_person("single")
    forbid = str(Path(__file__).parent.parent / "support" / "no_namespaces.py")
    pybuild = Pybuild(person.home / "store", {}, (*person.prefix, sys.executable, forbid, "filter", SCRIPT))
    shutil.copy(base_archive, person.home / "base.tar")
    (person.home / "base.tar").chmod(0o644)
    pybuild("import", person.home / "base.tar")
    done = pybuild.run("--check", person.context("c", f"{RECIPE}RUN x\n"))
    assert done.status == 1
    assert done.out.endswith("Check complete, 3 warnings found.\n")
    forget(person)


def test_a_misspelt_build_argument(pybuild: Pybuild, context: Path) -> None:
    (context / "Buildfile").write_text(f"FROM {BASE}\nARG VERSION=1\nENV V=$VERSION\n")
    said = f'{context}/Buildfile:2:1: warning: UnknownBuildArg: Build argument "VERISON" is not declared by any ARG (did you mean VERSION?)'
    assert said in pybuild("--build-arg=VERISON=2", context).err.splitlines()
    assert said in pybuild.run("--check", "--build-arg=VERISON=2", context).out.splitlines()
    check = "--build-arg=BUILDKIT_DOCKERFILE_CHECK=error=true"
    message = pybuild.refused("--build-arg=VERISON=2", check, context)
    assert "error: lint violation found for rules: UnknownBuildArg" in message.splitlines()
    assert pybuild("--build-arg=VERSION=2", check, context).out.startswith("sha256:")


def test_copies_that_go_wrong_silently_are_warned_about(pybuild: Pybuild, tmp_path: Path) -> None:
    recipe = f"FROM {BASE}\nCOPY nope* /x/\nCOPY --link f /tmp/\nCOPY f g /y\n"
    context = write_context(tmp_path / "silent", recipe, f="f", g="g")
    done = pybuild.run("--check", context)
    assert [line.split(": ")[2] for line in done.out.splitlines() if ": warning: " in line] == [
        "CopyUnmatchedWildcard", "CopyLinkResetsDirectory", "CopyLastFileWins",
    ]  # fmt: skip
