"""--call=outline, --call=targets, and the formats of --check, as users run them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli import BASE, Pybuild, write_context

RECIPE = f"""\
# syntax=docker/dockerfile:1

# VERSION is the release to build
ARG VERSION=1.22
ARG UNUSED=1

# base-builder has the tools
FROM {BASE}:${{VERSION:-latest}} AS base-builder
ARG A=$VERSION
# EXTRA is more
ARG EXTRA B=2
RUN --mount=type=secret,id=tok,required=true --mount=type=ssh make

FROM {BASE}
# TARGETARCH is predefined
ARG TARGETARCH VERSION

FROM scratch AS last
COPY --from=1 / /
COPY --from=base-builder / /
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write_context(tmp_path / "context", RECIPE)


def test_targets(pybuild: Pybuild, context: Path) -> None:
    assert pybuild("--call=targets", context).out.splitlines() == [
        "TARGET         DESCRIPTION",
        "base-builder   has the tools",
        "",
        "last (default)",
    ]
    data = json.loads(pybuild("--call=targets,format=json", context).out)
    assert data["targets"][2] == {
        "name": "last", "default": True, "base": "scratch", "location": {"ranges": [{"start": {"line": 18}, "end": {"line": 18}}]},
    }  # fmt: skip
    assert data["targets"][0]["base"] == f"{BASE}:${{VERSION:-latest}}"


def test_the_outline_of_a_target(pybuild: Pybuild, context: Path) -> None:
    assert pybuild("--call=outline", context).out.splitlines() == [
        "TARGET:      last",
        "",
        "BUILD ARG   VALUE   DESCRIPTION",
        "VERSION     1.22    is the release to build",
        "A",
        "EXTRA               is more",
        "B           2",
        "",
        "SECRET   REQUIRED",
        "tok      true",
        "",
        "SSH       REQUIRED",
        "default",
    ]


def test_the_outline_has_the_values_of_the_user(pybuild: Pybuild, context: Path) -> None:
    arguments = ("--target=base-builder", "--build-arg=VERSION=latest", "--build-arg=EXTRA=x")
    lines = pybuild("--call=outline", *arguments, context).out.splitlines()
    assert lines[:2] == ["TARGET:      base-builder", "DESCRIPTION: has the tools"]
    assert lines[4].split() == ["VERSION", "latest", "is", "the", "release", "to", "build"]
    assert lines[6].split() == ["EXTRA", "x", "is", "more"]


def test_the_outline_as_json(pybuild: Pybuild, context: Path) -> None:
    data = json.loads(pybuild("--call=outline,format=json", context).out)
    assert data["args"][0] == {
        "name": "VERSION", "description": "is the release to build", "value": "1.22",
        "location": {"ranges": [{"start": {"line": 4}, "end": {"line": 4}}]},
    }  # fmt: skip
    assert [need["name"] for need in (*data["secrets"], *data["ssh"])] == ["tok", "default"]
    assert data["secrets"][0]["required"] is True and "required" not in data["ssh"][0]
    assert data["name"] == "last"


def test_an_outline_needs_no_base(pybuild: Pybuild, context: Path) -> None:
    (context / "Buildfile").write_text("FROM nowhere.test/image\nARG P=80\nWORKDIR $APP\nEXPOSE $PORT$P\n")
    assert pybuild("--call=outline", context).out.splitlines() == ["BUILD ARG   VALUE   DESCRIPTION", "P           80"]


def test_an_outline_of_a_wrong_recipe_is_an_error(pybuild: Pybuild, context: Path) -> None:
    (context / "Buildfile").write_text(f"FROM {BASE}\nWORKDIR it's\n")
    assert ":2:9: error: " in pybuild.refused("--call=outline", context)
    assert "no such stage" not in pybuild.refused("--call=outline", "--target=nope", context)


def test_the_formats_of_a_check(pybuild: Pybuild, context: Path) -> None:
    (context / "Buildfile").write_text(f"FROM {BASE}\nMAINTAINER x\n")
    data = json.loads(pybuild.run("--call=check,format=json", context).out)
    assert [warning["ruleName"] for warning in data["warnings"]] == ["MaintainerDeprecated"]
    log = json.loads(pybuild.run("--check", "--format=sarif", context, cwd=context).out)
    (result,) = log["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "Buildfile"
    done = pybuild.run("--check", "--format=github", context, GITHUB_WORKSPACE=str(context.parent))
    assert done.out.startswith("::warning file=context/Buildfile,line=2,col=1,endColumn=13,title=MaintainerDeprecated::")
    assert (done.status, done.err) == (1, "")
    assert pybuild("--call=check,ignorestatus=true", context).status == 0
