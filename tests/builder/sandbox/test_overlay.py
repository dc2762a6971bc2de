"""Overlays of many directories whose paths are long: the kernel takes at most 255 bytes for each."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.sandbox import linux, overlay
from pybuild.builder.sandbox.overlay import mount_overlay
from pybuild.builder.sandbox.root import OperationRefused

if TYPE_CHECKING:
    from tests.builder.sandbox.conftest import EnterNamespaces, InChild


def make_layers(place: Path, length: int, layers: int) -> list[str]:
    """Directories below one with a path of this length, made with relative names, each with one file."""
    path = str(place)
    os.chdir(path)
    while len(path) < length:
        name = "d" * min(200, max(1, length - len(path) - 1))
        os.mkdir(name)
        os.chdir(name)
        path += f"/{name}"
    for name in ("upper", "work", "root"):
        os.mkdir(name)
    for number in range(layers):
        os.mkdir(f"layer{number}")
        Path(f"layer{number}/{number}").touch()
    os.chdir("/")
    return [path, *(f"{path}/layer{number}" for number in range(layers))]


@pytest.mark.parametrize("layers", [1, 30, 200])
@pytest.mark.parametrize("length", [300, 1000, 4000])
def test_paths_of_any_length(
    tmp_path: Path, in_child: InChild, enter_namespaces: EnterNamespaces, length: int, layers: int
) -> None:
    def mounted() -> tuple[set[str], list[str]]:
        enter_namespaces()
        above, *lowers = make_layers(tmp_path, length, layers)
        before = len(os.listdir("/proc/self/fd"))
        fd = mount_overlay(lowers, (f"{above}/upper", f"{above}/work"), f"{above}/root")
        assert len(os.listdir("/proc/self/fd")) == before + 1
        found = os.open(".", os.O_RDONLY, dir_fd=fd)
        os.close(os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=found))
        os.chdir(above)
        return set(os.listdir(found)), os.listdir("upper")

    found, upper = in_child(mounted)
    assert found == {*map(str, range(layers)), "new"}
    assert upper == ["new"]


@pytest.mark.parametrize("layers", [2, 50])
def test_a_kernel_without_lowerdir_plus(
    tmp_path: Path, in_child: InChild, enter_namespaces: EnterNamespaces, layers: int
) -> None:
    def mounted() -> set[str]:
        enter_namespaces()
        above, *lowers = make_layers(tmp_path, 300, layers)
        real = linux.fsconfig_string

        def fsconfig_string(fd: int, key: str, value: bytes) -> None:
            if key == "lowerdir+":
                raise OSError(errno.EINVAL, "fsconfig: Invalid argument")
            real(fd, key, value)

        linux.fsconfig_string = fsconfig_string
        found = mount_overlay(lowers, None, f"{above}/root")
        return set(os.listdir(os.open(".", os.O_RDONLY, dir_fd=found)))

    assert in_child(mounted) == {str(number) for number in range(layers)}


def test_too_many_layers_for_mount(tmp_path: Path, in_child: InChild, enter_namespaces: EnterNamespaces) -> None:
    def mounted() -> None:
        enter_namespaces()
        above, *lowers = make_layers(tmp_path, 300, 600)
        os.chdir(above)
        overlay._mount_before_6_8(lowers, None, "root")

    with pytest.raises(OperationRefused, match="600 layers are too many for this kernel's overlay mounts"):
        in_child(mounted)
