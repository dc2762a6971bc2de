"""The platforms of builds, stages and steps."""

from __future__ import annotations

import pytest

from pybuild.builder.errors import PrivilegeError
from pybuild.builder.plan.graph import BaseStep, RunStep
from pybuild.builder.plan.platforms import check_system
from pybuild.store.formats.platform import Platform
from tests.support.recipes import Images, image, planned, refusal, resolved

ARM = Platform("linux", "arm64")


@pytest.mark.parametrize(
    ("platform", "values"),
    [
        pytest.param("linux/amd64", "linux/amd64 linux amd64 . linux/amd64 linux amd64 .", id="E22-the platform of this machine"),
        pytest.param("linux/arm/v7", "linux/arm/v7 linux arm v7 linux/amd64 linux amd64 .", id="E22-another platform"),
    ],
)
def test_the_platform_args(platform: str, values: str) -> None:
    names = [f"{prefix}{name}" for prefix in ("TARGET", "BUILD") for name in ("PLATFORM", "OS", "ARCH", "VARIANT")]
    text = "FROM base\nARG " + " ".join(names) + "\nENV v=" + "\\ ".join(f"${{{name}:-.}}" for name in names)
    (env,) = (
        pair for pair in planned(text, platform=Platform.parse(platform)).image.state.config.env if pair[:2] == "v="
    )
    assert env == f"v={values}"


def test_a_build_argument_overrides_a_platform_arg() -> None:
    text = "FROM base\nARG TARGETARCH\nENV v=$TARGETARCH"
    assert "v=mine" in planned(text, build_args={"TARGETARCH": "mine"}).image.state.config.env


@pytest.mark.parametrize(
    ("from_", "asked"),
    [
        pytest.param("FROM base", "base", id="none is asked for"),
        pytest.param("FROM --platform=linux/arm64 base", "linux/arm64 base", id="E9-as written"),
        pytest.param("FROM --platform=aarch64 base", "linux/arm64 base", id="under another name"),
        pytest.param("FROM --platform=$BUILDPLATFORM base", "linux/amd64 base", id="E9-a variable"),
        pytest.param("ARG P=linux/arm64\nFROM --platform=$P base", "linux/arm64 base", id="E9-an ARG before FROM"),
        pytest.param("ARG A=arm64\nFROM --platform=linux/${A} base", "linux/arm64 base", id="E9-a part of it"),
    ],
)
def test_the_base_is_resolved_for_the_platform(from_: str, asked: str) -> None:
    images = Images({"base": image(), "linux/arm64 base": image(), "linux/amd64 base": image()})
    resolved(from_, images, platform=ARM)
    assert images.asked == [asked]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FROM --platform=$NONE base", "1:17 --platform=$NONE: the variable has no value"),
        ("FROM --platform=bogus base", "1:17 --platform=bogus: invalid platform 'bogus'"),
        ("FROM --platform=a/b/c/d base", "1:17 --platform=a/b/c/d: invalid platform 'a/b/c/d'"),
        (
            "FROM base AS s\nFROM --platform=linux/arm64 s",
            "2:17 --platform=linux/arm64: the stage s is for linux/amd64",
        ),
    ],
)
def test_an_invalid_platform_is_refused(text: str, said: str) -> None:
    assert refusal(text) == said


def test_a_stage_from_a_stage_and_its_steps_have_the_same_platform() -> None:
    text = "FROM --platform=$BUILDPLATFORM base AS s\nFROM --platform=linux/amd64 s\nRUN x"
    result = planned(text, Images({"linux/amd64 base": image()}), platform=ARM)
    assert {str(node.platform) for node in result.nodes if isinstance(node.step, RunStep | BaseStep)} == {"linux/amd64"}


def test_an_image_from_scratch_has_the_requested_platform() -> None:
    assert planned("FROM scratch", platform=ARM).image.platform == ARM
    assert planned("FROM --platform=linux/riscv64 scratch", platform=ARM).image.platform == Platform("linux", "riscv64")


def test_a_run_is_for_linux_only() -> None:
    check_system(ARM)
    with pytest.raises(PrivilegeError, match="RUN for windows/amd64: pybuild runs programs for linux only"):
        check_system(Platform("windows", "amd64"))
