"""The system calls on the running kernel. Tests that need privilege make a user namespace."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pybuild
from pybuild.builder.sandbox import linux
from pybuild.store.system.syscalls import call

if TYPE_CHECKING:
    from tests.builder.sandbox.conftest import EnterNamespaces, InChild

REPOSITORY = Path(pybuild.__file__).parents[1]


def new_tmpfs(**options: bytes) -> int:
    context = linux.fsopen("tmpfs")
    for key, value in options.items():
        linux.fsconfig_string(context, key, value)
    linux.fsconfig_create(context)
    return linux.fsmount(context, linux.MOUNT_ATTR_NODEV)


def status_field(name: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(f"{name}:"))


# --- descriptors


def test_close_range_closes_both_ends(in_child: InChild) -> None:
    def job() -> list[bool]:
        # Consecutive numbers above the descriptors that the process has open.
        fds = [fcntl.fcntl(os.open("/", os.O_RDONLY), fcntl.F_DUPFD, number) for number in range(200, 208)]
        low, high = fds[2], fds[5]
        assert fds == list(range(200, 208))
        linux.close_range(low, high)
        return [Path(f"/proc/self/fd/{fd}").exists() for fd in fds]

    assert in_child(job) == [True, True, False, False, False, False, True, True]


# --- namespaces and mounts


def test_unshare_gives_other_namespaces(in_child: InChild, enter_namespaces: EnterNamespaces) -> None:
    kinds = ("user", "mnt", "uts", "ipc", "net")

    def job() -> list[Path]:
        enter_namespaces(linux.CLONE_NEWUTS | linux.CLONE_NEWIPC | linux.CLONE_NEWNET)
        return [Path(f"/proc/self/ns/{kind}").readlink() for kind in kinds]

    for inside, outside in zip(
        in_child(job), (Path(f"/proc/self/ns/{kind}").readlink() for kind in kinds), strict=True
    ):
        assert inside != outside


def test_setns_returns_to_a_namespace(in_child: InChild, enter_namespaces: EnterNamespaces) -> None:
    def job() -> bool:
        enter_namespaces()
        first = Path("/proc/self/ns/uts").readlink()
        linux.unshare(linux.CLONE_NEWUTS)
        second = os.open("/proc/self/ns/uts", os.O_RDONLY)
        linux.unshare(linux.CLONE_NEWUTS)
        third = Path("/proc/self/ns/uts").readlink()
        linux.setns(second, linux.CLONE_NEWUTS)
        now = Path("/proc/self/ns/uts").readlink()
        return len({first, third, now}) == 3

    assert in_child(job)


def test_setns_checks_the_kind(in_child: InChild) -> None:
    def job() -> None:
        linux.setns(os.open("/proc/self/ns/uts", os.O_RDONLY), linux.CLONE_NEWNET)

    with pytest.raises(OSError, match="setns: Invalid argument"):
        in_child(job)


def test_a_tmpfs_is_mounted_by_descriptors_and_becomes_the_root(
    in_child: InChild, enter_namespaces: EnterNamespaces, tmp_path: Path
) -> None:
    def job() -> tuple[list[str], int]:
        enter_namespaces()
        target = os.open(tmp_path, os.O_PATH)
        tmpfs = new_tmpfs(size=b"64k", mode=b"755")
        linux.move_mount(tmpfs, target)
        os.chdir(tmp_path)
        Path("inside").mkdir()
        linux.pivot_root(b".", b".")
        linux.umount2(b".", linux.MNT_DETACH)
        os.chdir("/")
        return [path.name for path in Path("/").iterdir()], os.statvfs("/").f_blocks * os.statvfs("/").f_frsize

    assert in_child(job) == (["inside"], 64 * 1024)
    assert list(tmp_path.iterdir()) == []


def test_umount2_names_the_path(in_child: InChild, enter_namespaces: EnterNamespaces, tmp_path: Path) -> None:
    def job() -> None:
        enter_namespaces()
        linux.umount2(os.fsencode(tmp_path), linux.MNT_DETACH)

    with pytest.raises(OSError, match="umount2: Invalid argument") as caught:
        in_child(job)
    assert caught.value.filename == str(tmp_path)


def test_a_cloned_tree_is_made_read_only_with_what_is_below(
    in_child: InChild, enter_namespaces: EnterNamespaces, tmp_path: Path
) -> None:
    (tmp_path / "source/below").mkdir(parents=True)
    (tmp_path / "target").mkdir()

    def job() -> tuple[int, int, int]:
        enter_namespaces()
        linux.move_mount(new_tmpfs(), os.open(tmp_path / "source/below", os.O_PATH))
        flags = linux.OPEN_TREE_CLONE | linux.AT_RECURSIVE
        tree = linux.open_tree(linux.AT_FDCWD, os.fsencode(tmp_path / "source"), flags)
        linux.mount_setattr(tree, linux.MOUNT_ATTR_RDONLY | linux.MOUNT_ATTR_NOSUID, recursive=True)
        linux.move_mount(tree, os.open(tmp_path / "target", os.O_PATH))
        return tuple(os.statvfs(tmp_path / name).f_flag for name in ("target", "target/below", "source/below"))  # type: ignore[return-value]

    target, below, source = in_child(job)
    assert target & os.ST_RDONLY and below & os.ST_RDONLY and below & os.ST_NOSUID
    assert not source & os.ST_RDONLY


def test_mount_setattr_clears_and_sets(in_child: InChild, enter_namespaces: EnterNamespaces, tmp_path: Path) -> None:
    def job() -> int:
        enter_namespaces()
        tmpfs = new_tmpfs()
        linux.mount_setattr(tmpfs, linux.MOUNT_ATTR_NOEXEC | linux.MOUNT_ATTR_RDONLY)
        linux.mount_setattr(tmpfs, 0, linux.MOUNT_ATTR_RDONLY)
        linux.move_mount(tmpfs, os.open(tmp_path, os.O_PATH))
        return os.statvfs(tmp_path).f_flag

    flags = in_child(job)
    assert flags & os.ST_NOEXEC and not flags & os.ST_RDONLY


def test_overlay_of_layers_given_one_by_one(
    in_child: InChild, enter_namespaces: EnterNamespaces, tmp_path: Path
) -> None:
    for name in ("one", "two", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    (tmp_path / "one/file").write_text("one")
    (tmp_path / "two/file").write_text("two")

    def job() -> str:
        enter_namespaces()
        overlay = linux.fsopen("overlay")
        linux.fsconfig_flag(overlay, "userxattr")
        for key, name in (("lowerdir+", "one"), ("lowerdir+", "two"), ("upperdir", "upper"), ("workdir", "work")):
            linux.fsconfig_string(overlay, key, os.fsencode(tmp_path / name))
        linux.fsconfig_create(overlay)
        linux.move_mount(linux.fsmount(overlay), os.open(tmp_path / "merged", os.O_PATH))
        (tmp_path / "merged/new").write_text("new")
        return (tmp_path / "merged/file").read_text()

    assert in_child(job) == "one"
    assert (tmp_path / "upper/new").read_text() == "new"


def test_fsconfig_reports_what_the_kernel_says(in_child: InChild, enter_namespaces: EnterNamespaces) -> None:
    def job() -> None:
        enter_namespaces()
        linux.fsconfig_string(linux.fsopen("tmpfs"), "size", b"many")

    with pytest.raises(OSError, match=r"fsconfig: Invalid argument \(.*Bad value for 'size'\): 'size'") as caught:
        in_child(job)
    assert caught.value.errno == errno.EINVAL


def test_fsconfig_create_fails_without_a_message_too(
    in_child: InChild, enter_namespaces: EnterNamespaces, tmp_path: Path
) -> None:
    def job() -> None:
        enter_namespaces()
        overlay = linux.fsopen("overlay")
        linux.fsconfig_flag(overlay, "userxattr")
        linux.fsconfig_string(overlay, "upperdir", os.fsencode(tmp_path))
        linux.fsconfig_create(overlay)

    with pytest.raises(OSError, match=r"^\[Errno 22\] fsconfig: Invalid argument$"):
        in_child(job)


def test_an_unknown_file_system_is_named(in_child: InChild, enter_namespaces: EnterNamespaces) -> None:
    def job() -> int:
        enter_namespaces()
        return linux.fsopen("nosuchfs")

    with pytest.raises(OSError, match=r"fsopen: No such device: 'nosuchfs'"):
        in_child(job)


def test_mount_refuses_options_that_the_kernel_would_cut(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="4096 bytes of options") as caught:
        linux.mount(b"overlay", os.fsencode(tmp_path), b"overlay", 0, b"x" * 4096)
    assert caught.value.errno == errno.E2BIG


# --- privileges


def test_capset_sets_each_mask(in_child: InChild, enter_namespaces: EnterNamespaces) -> None:
    def job() -> list[int]:
        enter_namespaces()
        high, low = 1 << 38, 1 << 7
        linux.capset(low, low | high, high)
        return [int(status_field(name), 16) for name in ("CapEff", "CapPrm", "CapInh")]

    assert in_child(job) == [1 << 7, 1 << 7 | 1 << 38, 1 << 38]


def test_a_dropped_capability_leaves_the_bounding_set(in_child: InChild, enter_namespaces: EnterNamespaces) -> None:
    def job() -> tuple[bool, bool, int]:
        enter_namespaces()
        before = linux.capbset_read(21)
        linux.capbset_drop(21)
        linux.clear_ambient()
        return before, linux.capbset_read(21), int(status_field("CapBnd"), 16) & 1 << 21

    assert in_child(job) == (True, False, 0)


def test_a_capability_the_kernel_does_not_know_is_an_error() -> None:
    with pytest.raises(OSError, match="prctl") as caught:
        linux.capbset_read(63)
    assert caught.value.errno == errno.EINVAL


def test_dumpable_is_set(in_child: InChild) -> None:
    def job() -> list[int]:
        answers = []
        for wanted in (True, False):
            linux.set_dumpable(wanted)
            answers.append(linux._prctl(linux.PR_GET_DUMPABLE))
        return answers

    assert in_child(job) == [1, 0]


def test_a_child_dies_with_its_parent(in_child: InChild) -> None:
    def job() -> int:
        linux.set_child_subreaper(True)
        ready, said = os.pipe()
        parent = os.fork()
        if parent == 0:
            if os.fork() == 0:
                linux.set_pdeathsig(signal.SIGKILL)
                os.write(said, str(os.getpid()).encode())
                signal.pause()
            signal.pause()
        grandchild = int(os.read(ready, 20))
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        return os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1])

    assert in_child(job) == -signal.SIGKILL


def test_a_new_session_keyring_is_another_one(in_child: InChild) -> None:
    get_keyring_id, session_keyring = 0, -3

    def job() -> tuple[int, int, int]:
        first = linux.join_session_keyring()
        second = linux.join_session_keyring()
        return first, second, call("keyctl", get_keyring_id, session_keyring, 0)

    first, second, current = in_child(job)
    assert first != second == current


@pytest.mark.parametrize("program", [b"", b"1234567", bytes(8 * 4097)], ids=["empty", "odd", "too long"])
def test_a_filter_of_invalid_length_is_refused(program: bytes) -> None:
    with pytest.raises(OSError, match=r"seccomp: .* are not a filter") as caught:
        linux.seccomp_set_mode_filter(program)
    assert caught.value.errno == errno.EINVAL


def test_a_program_that_the_kernel_refuses_is_an_error(in_child: InChild, enter_namespaces: EnterNamespaces) -> None:
    def job() -> None:
        enter_namespaces()
        linux.seccomp_set_mode_filter(bytes(8))

    with pytest.raises(OSError, match="seccomp: Invalid argument"):
        in_child(job)


# --- the process


def test_the_module_imports_little() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import pybuild.builder.sandbox.linux; print(*sys.modules)"
    argv = [sys.executable, "-SIc", code, str(REPOSITORY)]
    loaded = set(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split())
    assert "ctypes" in loaded
    assert not loaded & {
        "typing",
        "re",
        "json",
        "dataclasses",
        "inspect",
        "pathlib",
        "subprocess",
        "socket",
        "pybuild.parser",
    }


def test_signals_are_reset_also_those_that_the_c_library_reserves() -> None:
    code = """
import ctypes
from pybuild.builder.sandbox import linux
from pybuild.store.system import syscalls
ignored = ctypes.create_string_buffer((1).to_bytes(8, "little") + bytes(24))
syscalls.call("rt_sigaction", 32, ignored, None, 8)
syscalls.call("rt_sigprocmask", 0, ctypes.create_string_buffer((1 << 32).to_bytes(8, "little")), None, 8)
def lines():
    return [line.split()[1] for line in open("/proc/self/status") if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]
before = lines()
linux.reset_signals()
print(any(int(mask, 16) & 3 << 31 for mask in before), *lines())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "0" * 16, "0" * 16, "0" * 16]
