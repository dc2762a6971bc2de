"""One build for several platforms: an index in the store and in every form of output, and steps that are told apart."""

from __future__ import annotations

import json
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.cli import BASE, Pybuild, write_context

if TYPE_CHECKING:
    from pathlib import Path

BOTH = "--platform=linux/amd64,linux/arm64"
TEXT = """FROM --platform=$BUILDPLATFORM scratch AS src
COPY both /both
FROM scratch
ARG TARGETARCH
COPY --from=src / /
COPY only.$TARGETARCH /only
CMD ["/only"]
"""
FILES = {"both": "same", "only.amd64": "for amd64", "only.arm64": "for arm64"}


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write_context(tmp_path / "c", TEXT, **FILES)


def index_of(place: str) -> dict[str, Any]:
    """The index at a place, as skopeo reads it."""
    found: dict[str, Any] = json.loads(
        subprocess.run(["skopeo", "inspect", "--raw", place], check=True, capture_output=True).stdout
    )
    return found


def platforms(index: dict[str, Any]) -> dict[str, str]:
    """Architecture -> digest of the manifest."""
    return {entry["platform"]["architecture"]: entry["digest"] for entry in index["manifests"]}


def test_an_index_in_every_form_of_output(pybuild: Pybuild, tmp_path: Path, context: Path) -> None:
    files = tmp_path / "files"
    done = pybuild(
        BOTH, "-t", "app:1", "-o", f"type=oci,dest={tmp_path}/a.tar", "-o", f"type=oci,dest={tmp_path}/lay,tar=false",
        "-o", f"type=tar,dest={tmp_path}/f.tar", "-o", f"type=local,dest={files}", "--metadata-file", tmp_path / "m",
        "--iidfile", tmp_path / "iid", context,
    )  # fmt: skip
    digest = done.out.strip()
    for place in (f"oci-archive:{tmp_path}/a.tar", f"oci:{tmp_path}/lay"):
        assert platforms(index_of(place)).keys() == {"amd64", "arm64"}
    subprocess.run(
        ["skopeo", "copy", "-q", "--all", f"oci-archive:{tmp_path}/a.tar", f"dir:{tmp_path}/all"], check=True
    )
    assert (files / "linux_arm64/only").read_text() == "for arm64"
    assert (files / "linux_amd64/both").read_text() == "same"
    with tarfile.open(tmp_path / "f.tar") as tar:
        assert {name for name in tar.getnames() if name.endswith("only")} == {"linux_amd64/only", "linux_arm64/only"}
    metadata = json.loads((tmp_path / "m").read_text())
    assert (tmp_path / "iid").read_text() == metadata["containerimage.digest"] == digest
    assert metadata["pybuild.platforms"].keys() == {"linux/amd64", "linux/arm64"}
    assert pybuild(BOTH, context).out.strip() == digest  # all cached, and without a name


def test_what_is_for_all_platforms_is_made_once_and_steps_say_their_platform(pybuild: Pybuild, context: Path) -> None:
    done = pybuild("--progress=json", BOTH, context)
    steps = [(e.get("platform"), e["stage"]) for e in done.events if e["event"] == "step_finished"]
    assert steps.count(("linux/amd64", "src")) == 1
    assert {platform for platform, stage in steps if stage == "stage-1"} == {"linux/amd64", "linux/arm64"}
    assert "[linux/arm64 stage-1 2/2] CACHED COPY only.$TARGETARCH" in pybuild("--progress=plain", BOTH, context).err


def test_a_docker_archive_holds_one_platform(pybuild: Pybuild, tmp_path: Path, context: Path) -> None:
    message = pybuild.refused(BOTH, "-o", f"type=docker,dest={tmp_path}/d.tar", context)
    assert "a docker archive holds the image of one platform" in message


def test_a_base_without_the_platform_is_an_error_at_its_place(pybuild: Pybuild, tmp_path: Path) -> None:
    text = f"FROM {BASE}\nCOPY f /f\n"
    message = pybuild.refused("--pull=never", BOTH, write_context(tmp_path / "c", text, f="x"))
    assert f"Buildfile:1:6: error: linux/arm64: {BASE}: not in the store for linux/arm64" in message
    assert "hint: the store has it for linux/amd64" in message


def test_a_failure_names_its_platform(pybuild: Pybuild, tmp_path: Path) -> None:
    text = "FROM scratch\nARG TARGETARCH\nCOPY only.$TARGETARCH /\n"
    message = pybuild.refused(BOTH, write_context(tmp_path / "c", text, **{"only.amd64": "x"}))
    assert "Buildfile:3:1: error: linux/arm64: " in message


def test_each_platform_of_a_base_goes_to_its_own_image(pybuild: Pybuild, tmp_path: Path, context: Path) -> None:
    pybuild(BOTH, "-t", "base:1", context)
    text = "FROM base:1\nCOPY more /more\n"
    pybuild(BOTH, "-t", "app:1", "-o", f"type=local,dest={tmp_path}/o", write_context(tmp_path / "d", text, more="m"))
    assert (tmp_path / "o/linux_arm64/only").read_text() == "for arm64"
    assert (tmp_path / "o/linux_amd64/only").read_text() == "for amd64"
    # One platform of the two: the name means that image then, and keeps the other one.
    pybuild("--platform=linux/arm64", "-t", "one:1", "-o", f"type=local,dest={tmp_path}/arm", tmp_path / "d")
    assert (tmp_path / "arm/only").read_text() == "for arm64"


def test_a_cache_of_another_machine_has_the_steps_of_all_platforms(tmp_path: Path, context: Path) -> None:
    first, second = (Pybuild(tmp_path / name, {"HOME": str(tmp_path)}) for name in ("first", "second"))
    made = first("-q", BOTH, f"--cache-to=type=local,dest={tmp_path}/cache,mode=max", context)
    again = second("-q", BOTH, f"--cache-from=type=local,src={tmp_path}/cache", "--require-cached", context)
    assert made.out == again.out
    third = Pybuild(tmp_path / "third", {"HOME": str(tmp_path)})
    third("--platform=linux/arm64", f"--cache-from=type=local,src={tmp_path}/cache", "--require-cached", context)
    second.assert_whole()


def test_check_judges_all_platforms_and_says_everything_once(tmp_path: Path, pybuild: Pybuild) -> None:
    context = write_context(tmp_path / "c", "FROM scratch\nWORKDIR rel\n")
    done = pybuild.run(BOTH, "--check", context)
    assert (done.status, done.out.count("WorkdirRelativePath")) == (1, 1)
