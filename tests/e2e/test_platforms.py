"""Images for other processors: recipes without RUN build on any machine, and one name can have several platforms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pybuild.store.formats.platform import Platform
from tests.support.cli import BASE, Pybuild, write_context

OTHER = "linux/sparc64"  # a processor without any emulator


def config(pybuild: Pybuild, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(pybuild("inspect", name).out)["config"]
    return found


@pytest.fixture
def foreign(pybuild: Pybuild, tmp_path: Path) -> Pybuild:
    """The command, with an image `foreign` for another processor in its store."""
    pybuild("-t", "foreign", "--platform", OTHER, write_context(tmp_path / "f", "FROM scratch\nCOPY f /\n", f="x"))
    return pybuild


def test_recipes_without_run_build_for_any_platform(foreign: Pybuild, tmp_path: Path) -> None:
    text = f"FROM --platform=$BUILDPLATFORM {BASE} AS build\nARG TARGETPLATFORM\nRUN echo $TARGETPLATFORM > /out\n"
    text += "FROM foreign\nCOPY --from=build /out /\nWORKDIR /w\nENV a=b\n"
    foreign(
        "-t", "app", "--platform", OTHER, "-o", f"type=tar,dest={tmp_path}/o.tar", write_context(tmp_path / "c", text)
    )
    assert (config(foreign, "app")["architecture"], config(foreign, "foreign")["architecture"]) == (
        "sparc64",
        "sparc64",
    )
    assert f"{OTHER}\n".encode() in (tmp_path / "o.tar").read_bytes()


def test_run_for_another_processor_reports_the_missing_emulator(foreign: Pybuild, tmp_path: Path) -> None:
    message = foreign.refused(
        "--platform", OTHER, write_context(tmp_path / "c", "FROM foreign\nCOPY f /g\nRUN true\n", f="x")
    )
    assert f"Buildfile:3:1: error: RUN for {OTHER} on {Platform.host()}: there is no emulator for sparc64" in message
    assert "hint: no RUN can be for sparc64; files can be copied" in message


def test_a_base_for_the_wrong_platform_is_refused(pybuild: Pybuild, tmp_path: Path) -> None:
    message = pybuild.refused("--pull=never", write_context(tmp_path / "c", f"FROM --platform={OTHER} {BASE}\n"))
    assert f"Buildfile:1:31: error: {BASE}: not in the store for {OTHER}, and --pull=never" in message


def test_a_foreign_base_without_platform_option_gives_a_warning(foreign: Pybuild, tmp_path: Path) -> None:
    message = foreign(write_context(tmp_path / "c", "FROM foreign\nENV a=b\n")).err
    assert (
        f'InvalidBaseImagePlatform: Base image foreign was pulled with platform "{OTHER}", expected "{Platform.host()}"'
        in message
    )


def test_one_name_has_an_image_per_platform(foreign: Pybuild, tmp_path: Path) -> None:
    for platform in (str(Platform.host()), OTHER):
        context = write_context(tmp_path / "two", f"FROM scratch\nENV p={platform}\n")
        foreign("-t", "both", "--platform", platform, context)
    for platform in (str(Platform.host()), OTHER, str(Platform.host())):
        foreign(
            "--pull=never", "-t", "got", write_context(tmp_path / "c", f"FROM --platform={platform} both\nENV q=r\n")
        )
        assert f"p={platform}" in config(foreign, "got")["config"]["Env"]


def test_an_imported_root_filesystem_gets_the_given_platform(pybuild: Pybuild, tmp_path: Path) -> None:
    pybuild("export", BASE, "-o", f"type=tar,dest={tmp_path}/r.tar")
    pybuild("import", "--platform", "linux/arm/v6", tmp_path / "r.tar", "rootfs")
    found = config(pybuild, "rootfs")
    assert (found["architecture"], found["variant"]) == ("arm", "v6")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--platform=linux/amd64,bogus",), "invalid platform 'bogus'"),
        (("--platform=bogus",), "invalid platform 'bogus'"),
    ],
)
def test_invalid_platforms_are_wrong_usage(
    pybuild: Pybuild, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    assert message in pybuild.refused(*arguments, write_context(tmp_path / "c", "FROM scratch\n"), status=2)


def test_local_is_this_machine(pybuild: Pybuild, tmp_path: Path) -> None:
    pybuild("-t", "t", "--platform=local", write_context(tmp_path / "c", "FROM scratch\nENV a=b\n"))
    assert config(pybuild, "t")["architecture"] == Platform.host().architecture
