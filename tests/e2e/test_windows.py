"""Images for Windows and darwin: without RUN, in the form that their systems read."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING

from tests.support.cli import Pybuild, write_context

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = """# escape=`
FROM --platform=$BUILDPLATFORM scratch AS made
COPY app /out/app.exe
FROM scratch
WORKDIR C:\\app
COPY --from=made /out/app.exe .
COPY app C:\\tools\\
ENTRYPOINT ["app.exe"]
"""


def test_an_image_for_windows(tmp_path: Path) -> None:
    pybuild = Pybuild(tmp_path / "store", {"HOME": str(tmp_path)})
    context = write_context(tmp_path / "c", RECIPE, app="program")
    pybuild(
        "-q",
        "--platform=windows/amd64",
        "-t",
        "win",
        "-o",
        f"type=oci,dest={tmp_path}/lay,tar=false",
        "-o",
        tmp_path / "files",
        context,
    )
    found = json.loads(pybuild("inspect", "win").out)
    assert (found["config"]["os"], found["config"]["config"]["WorkingDir"]) == ("windows", "\\app")
    names: list[str] = []
    for layer in found["manifest"]["layers"]:
        with tarfile.open(tmp_path / "lay/blobs/sha256" / layer["digest"].removeprefix("sha256:")) as tar:
            members = tar.getmembers()
        assert all("MSWINDOWS.fileattr" in member.pax_headers for member in members)
        names += [member.name for member in members]
    assert sorted(set(names)) == ["Files", "Files/app", "Files/app/app.exe", "Files/tools", "Files/tools/app", "Hives"]
    assert (tmp_path / "files/app/app.exe").read_text() == "program"  # the files alone are as on the drive C:
    back = write_context(tmp_path / "d", "FROM scratch\nCOPY --from=win /app /\n")
    pybuild("-q", "-o", tmp_path / "back", back)
    assert (tmp_path / "back/app.exe").read_text() == "program"
    pybuild.assert_whole()


def test_an_index_for_three_systems(tmp_path: Path) -> None:
    pybuild = Pybuild(tmp_path / "store", {"HOME": str(tmp_path)})
    context = write_context(tmp_path / "c", "FROM scratch\nARG TARGETOS\nCOPY app /$TARGETOS\n", app="x")
    systems = "linux/amd64,windows/amd64,darwin/arm64"
    pybuild("-q", f"--platform={systems}", "-t", "all", "-o", tmp_path / "files", context)
    for directory in ("linux_amd64/linux", "windows_amd64/windows", "darwin_arm64/darwin"):
        assert (tmp_path / "files" / directory).read_text() == "x"
    images = json.loads(pybuild("index", "inspect", "all").out)["images"]
    assert [image["platform"] for image in images] == systems.split(",")
    pybuild.assert_whole()
