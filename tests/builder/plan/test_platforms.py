"""The platforms of builds, stages and steps, and the platforms whose programs this machine can run."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybuild.builder.errors import PrivilegeError
from pybuild.builder.plan.graph import BaseStep, RunStep
from pybuild.builder.plan.platforms import check_runnable, emulator
from pybuild.store.formats.platform import Platform
from tests.support.recipes import Images, image, planned, refusal, resolved

ARM = Platform("linux", "arm64")
HOST = Platform.host()


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


# What the kernel can run


MAGIC = "7f454c460201010000000000000000000200"


def register(directory: Path, name: str, machine: str, *, flags: str = "OCF", enabled: bool = True) -> None:
    state = "enabled" if enabled else "disabled"
    text = f"{state}\ninterpreter /usr/bin/{name}\nflags: {flags}\noffset 0\nmagic {MAGIC}{machine}\nmask {'f' * 40}\n"
    (directory / name).write_text(text)


def test_an_emulator_is_found_by_its_magic(tmp_path: Path) -> None:
    register(tmp_path, "qemu-aarch64", "b700")
    register(tmp_path, "some-name", "0016")
    register(tmp_path, "qemu-riscv64", "f300", flags="")
    register(tmp_path, "qemu-ppc64le", "1500", enabled=False)
    (tmp_path / "python3.11").write_text(
        "enabled\ninterpreter /usr/bin/python3.11\nflags: \noffset 0\nmagic a70d0d0a\n"
    )
    for name in ("register", "status"):
        (tmp_path / name).write_text("enabled\n")
    found = {name: emulator(name, str(tmp_path)) for name in ("arm64", "s390x", "riscv64", "ppc64le", "arm", "sparc64")}
    assert found == {"arm64": "F", "s390x": "F", "riscv64": "", "ppc64le": None, "arm": None, "sparc64": None}
    assert emulator("arm64", str(tmp_path / "none")) is None


def test_native_programs_need_no_emulator(tmp_path: Path) -> None:
    check_runnable(HOST, str(tmp_path))


def test_a_missing_emulator_is_an_error_with_an_install_hint(tmp_path: Path) -> None:
    with pytest.raises(
        PrivilegeError, match=f"RUN for linux/s390x on {HOST}: there is no emulator for s390x"
    ) as caught:
        check_runnable(Platform("linux", "s390x"), str(tmp_path))
    assert "qemu-user-static" in (caught.value.hint or "")
    register(tmp_path, "qemu-s390x", "0016", flags="")
    with pytest.raises(PrivilegeError, match="without the flag F"):
        check_runnable(Platform("linux", "s390x"), str(tmp_path))
    register(tmp_path, "qemu-s390x", "0016")
    check_runnable(Platform("linux", "s390x"), str(tmp_path))
