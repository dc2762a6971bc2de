"""Machines that refuse namespaces: everything except RUN works, and RUN reports cause and fix."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import BASE, SCRIPT, Pybuild
from tests.support.copies import tar_of
from tests.support.copymodel import Directory, File
from tests.support.people import forget, make_person

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.people import Person

FORBID = str(Path(__file__).parent.parent / "support" / "no_namespaces.py")
RECIPE = f"""\
FROM {BASE} AS first
COPY --chown=app file /d/file
WORKDIR /made
FROM {BASE}
COPY --from=first / /all/
COPY --link --exclude=a.tar . /linked/
COPY --parents --chmod=u=rwX,go=rX ./fi* <<EOF /parents/
text
EOF
ADD a.tar /added
ENV x=y
"""
ARCHIVE = tar_of(Directory({"d": Directory({"f": File(b"", 0o600, (3, 4))}, 0o700, (1000, 1000))}))
CAUSES = {
    "filter": ("a seccomp filter of this process denies namespaces", "--security-opt seccomp=unconfined"),
    "sysctl": ("user.max_user_namespaces is 0", "sysctl -w user.max_user_namespaces=15000"),
}


@pytest.fixture(params=["root", "single"])
def user(request: pytest.FixtureRequest, base_archive: Path) -> Iterator[Person]:
    found = make_person(request.param)
    shutil.copy(base_archive, found.home / "base.tar")
    (found.home / "base.tar").chmod(0o644)
    yield found
    forget(found)


def forbidden(person: Person, how: str) -> Pybuild:
    """The command as `person` runs it without namespaces."""
    return Pybuild(
        person.home / "store", {"SOURCE_DATE_EPOCH": "1700000000"}, (*person.prefix, sys.executable, FORBID, how, SCRIPT)
    )


@pytest.mark.parametrize("how", CAUSES)
def test_everything_without_run_works_and_gives_the_same_image(user: Person, how: str) -> None:
    pybuild = forbidden(user, how)
    context = user.context("c", RECIPE, file="content\n", **{"a.tar": ARCHIVE})
    pybuild("import", user.home / "base.tar")
    digest = pybuild("-t", "t", "-o", f"type=oci,dest={user.home}/t.tar", context).out
    assert pybuild("-t", "t", context).out == digest
    assert "COPY / /all/" in pybuild("history", "t").out
    files = pybuild("history", "--files", "t").out
    assert all(f"A /{path}" in files for path in ("all/d/file", "linked/file", "parents/file", "parents/EOF", "added/d/f"))
    pybuild("export", "t", "-o", f"type=oci,dest={user.home}/again.tar")
    pybuild("tag", "t", "u")
    pybuild("rmi", "t")
    pybuild.assert_whole()
    pybuild("reset")

    allowed = user.pybuild(SOURCE_DATE_EPOCH="1700000000")
    allowed("import", user.home / "base.tar")
    assert allowed("-t", "t", context).out == digest


@pytest.mark.parametrize("how", CAUSES)
def test_run_reports_the_cause_and_the_fix(user: Person, how: str) -> None:
    pybuild = forbidden(user, how)
    pybuild("import", user.home / "base.tar")
    message = pybuild.refused(user.context("c", f"FROM {BASE}\nENV x=y\nRUN true\n"))
    cause, fix = CAUSES[how]
    assert f"Buildfile:3:1: error: RUN needs a user namespace, and this machine refuses one: {cause}" in message
    assert fix in message.splitlines()[-1]
    assert message.rstrip().endswith("see pybuild doctor")


@pytest.mark.parametrize("how", CAUSES)
def test_doctor_reports_the_same_cause(user: Person, how: str) -> None:
    done = forbidden(user, how).run("doctor", "--json")
    assert done.status == 1
    checks = {line["name"]: line for line in map(json.loads, done.out.splitlines())}
    cause, fix = CAUSES[how]
    assert checks["user namespaces"]["state"] == "fail"
    assert cause in checks["user namespaces"]["found"]
    assert fix in checks["user namespaces"]["fix"]


@pytest.mark.parametrize("how", CAUSES)
def test_copying_from_a_stage_needs_no_tree_of_an_earlier_run(user: Person, how: str) -> None:
    """The result of a RUN exists as a tar too."""
    allowed = user.pybuild(SOURCE_DATE_EPOCH="1700000000")
    allowed("import", user.home / "base.tar")
    stage = f"FROM {BASE} AS s\nRUN mkdir /made && echo 1 > /made/f && chmod -R go-rwx /made\n"
    allowed("-q", user.context("a", stage))
    pybuild = forbidden(user, how)
    context = user.context("b", f"{stage}FROM scratch\nCOPY --from=s /made /copied/\n")
    out = pybuild("-t", "t", "--progress=json", context)
    assert out.finished()["COPY --from=s /made /copied/"] is False
    assert "A /copied/f" in pybuild("history", "--files", "t").out
