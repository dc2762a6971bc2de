"""The compiled filter against its profile, in an interpreter of classic BPF and in the kernel."""

from __future__ import annotations

import ctypes
import errno
import operator
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pybuild
from pybuild.builder.sandbox import capabilities, linux, seccomp
from pybuild.store.system import syscalls

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.builder.sandbox.seccomp import Comparison, Operator, Profile, Rule
    from tests.builder.sandbox.conftest import EnterNamespaces, InChild

PROFILE = seccomp.read_profile()
NUMBERS = seccomp.read_numbers()
ALLOW, KILL = seccomp.SECCOMP_RET_ALLOW, seccomp.SECCOMP_RET_KILL_PROCESS
EPERM, ENOSYS = seccomp.SECCOMP_RET_ERRNO | errno.EPERM, seccomp.SECCOMP_RET_ERRNO | errno.ENOSYS
NONE = (0, 0, 0, 0, 0, 0)


def no_new_privs() -> bool:
    return "NoNewPrivs:\t1\n" in Path("/proc/self/status").read_text()


DENIED = """
    add_key keyctl request_key bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register mount
    umount2 mount_setattr move_mount open_tree open_tree_attr fsopen fsconfig fsmount fspick pivot_root setns
    unshare open_by_handle_at init_module finit_module delete_module kexec_load kcmp pidfd_getfd process_madvise
    quotactl quotactl_fd swapon swapoff reboot sethostname setdomainname settimeofday clock_settime acct syslog
    set_mempolicy move_pages vhangup fanotify_init nfsservctl lookup_dcookie
"""
NEEDED = """
    read write openat close execve exit_group wait4 mprotect brk futex ptrace chroot mknodat fchownat setuid
    setgroups setresuid prctl capset kill umask fsetxattr seccomp statx getrandom copy_file_range rseq memfd_create
"""

# ABI: (audit number as in linux/audit.h, machine, Docker's name of the machine)
ABIS = {
    "x86_64": (0xC000003E, "x86_64", "amd64"),
    "i386": (0x40000003, "x86_64", "amd64"),
    "aarch64": (0xC00000B7, "aarch64", "arm64"),
    "arm": (0x40000028, "aarch64", "arm64"),
}
CAPABILITY_SETS = {
    "default": capabilities.DEFAULT,
    "none": frozenset[str](),
    "sys_admin": frozenset({"CAP_SYS_ADMIN"}),
    "all": frozenset(capabilities.NAMES),
}


def run_bpf(program: bytes, number: int, audit: int, args: tuple[int, ...] = NONE) -> int:
    """Interpret the program for one call, by Documentation/networking/filter.rst."""
    data = struct.pack("<IIQ6Q", number, audit, 0, *args)
    code = list(struct.iter_unpack("<HBBI", program))
    accumulator = position = 0
    while True:
        op, if_true, if_false, constant = code[position]
        position += 1
        match op:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, constant)
            case 0x54:
                accumulator &= constant
            case 0x05:
                position += constant
            case 0x15:
                position += if_true if accumulator == constant else if_false
            case 0x25:
                position += if_true if accumulator > constant else if_false
            case 0x35:
                position += if_true if accumulator >= constant else if_false
            case 0x06:
                return int(constant)
            case _:
                raise AssertionError(f"unexpected opcode {op:#x}")


def holds(comparison: Comparison, args: tuple[int, ...]) -> bool:
    index, name, value, *more = comparison
    if name == "MASKED_EQ":
        return args[index] & value == more[0]
    compare = {"EQ": "eq", "NE": "ne", "LT": "lt", "LE": "le", "GT": "gt", "GE": "ge"}[name]
    return bool(getattr(operator, compare)(args[index], value))


def expected(profile: Profile, caps: frozenset[str], abi: str, number: int, args: tuple[int, ...]) -> int:
    """The action by the profile, rule by rule."""
    table, arch = NUMBERS[abi], ABIS[abi][2]
    conditional = None
    for rule in profile["rules"]:
        if number not in [table.get(name) for name in rule["names"]]:
            continue
        if any(cap not in caps for cap in rule.get("if_caps", [])):
            continue
        if any(cap in caps for cap in rule.get("unless_caps", [])):
            continue
        if "if_arches" in rule and arch not in rule["if_arches"]:
            continue
        if arch in rule.get("unless_arches", []):
            continue
        action = 0x50000 | rule["errno"] if "errno" in rule else 0x7FFF0000
        if "any_of" not in rule:
            return action
        if conditional is None and any(holds(comparison, args) for comparison in rule["any_of"]):
            conditional = action
    if conditional is not None:
        return conditional
    named = [table[name] for rule in profile["rules"] for name in rule["names"] if name in table]
    if number not in named and number > max(known for known in named if known < 0xF0000):
        return ENOSYS
    return 0x50000 | profile["default_errno"]


def program_for(abi: str, caps: frozenset[str] = capabilities.DEFAULT) -> bytes:
    return seccomp.compile_profile(PROFILE, caps, ABIS[abi][1], NUMBERS)


def one_rule(rule: Rule) -> Profile:
    anchor: Rule = {"names": ["read"], "if_caps": ["CAP_SYS_ADMIN"]}
    return {"origin": "", "version": "", "licence": "", "default_errno": 1, "rules": [anchor, rule]}


# --- the whole profile


@pytest.mark.parametrize("caps", CAPABILITY_SETS)
@pytest.mark.parametrize("abi", ABIS)
def test_every_call_is_decided_as_the_profile_says(abi: str, caps: str) -> None:
    program = program_for(abi, CAPABILITY_SETS[caps])
    wide = (1 << 64) - 1
    for args in (NONE, (38, 0, 0, 0, 0, 0), (0x20000, 0x20000, 0, 0, 0, 0), (wide,) * 6):
        for number in [*range(601), *range(0xF0000, 0xF0010), 0x40000000, 0x40000029, 0xFFFFFFFF]:
            wanted = expected(PROFILE, CAPABILITY_SETS[caps], abi, number, args)
            assert run_bpf(program, number, ABIS[abi][0], args) == wanted, (number, args)


@given(st.sampled_from(sorted(ABIS)), st.data())
def test_random_arguments(abi: str, data: st.DataObject) -> None:
    table = NUMBERS[abi]
    number = data.draw(st.sampled_from([table[name] for name in ("socket", "personality", "clone", "clone3")]))
    edge = st.sampled_from([0, 8, 12, 38, 40, 45, 0x20000, 0x20008, 0x7E020000, 0xFFFFFFFF, 1 << 32, 1 << 63])
    word = st.one_of(st.integers(0, 50), edge, st.integers(0, (1 << 64) - 1))
    args = data.draw(st.tuples(word, word, word, word, word, word))
    wanted = expected(PROFILE, capabilities.DEFAULT, abi, number, args)
    assert run_bpf(program_for(abi), number, ABIS[abi][0], args) == wanted


@pytest.mark.parametrize("abi", ABIS)
def test_what_a_build_step_must_not_do(abi: str) -> None:
    program, (audit, _, _) = program_for(abi), ABIS[abi]
    table = NUMBERS[abi]
    reached = {name for name in DENIED.split() if run_bpf(program, table.get(name, 599), audit) not in (EPERM, ENOSYS)}
    assert reached == set()
    missing = {"kexec_load", "nfsservctl", "lookup_dcookie", "move_pages", "iopl"}
    assert {name for name in DENIED.split() if name not in table} <= missing
    assert run_bpf(program, table["clone3"], audit) == ENOSYS


@pytest.mark.parametrize("abi", ABIS)
def test_what_a_build_step_needs(abi: str) -> None:
    program, (audit, _, _) = program_for(abi), ABIS[abi]
    assert {name for name in NEEDED.split() if run_bpf(program, NUMBERS[abi][name], audit) != ALLOW} == set()


def test_address_families() -> None:
    program, (audit, _, _) = program_for("x86_64"), ABIS["x86_64"]
    number = NUMBERS["x86_64"]["socket"]
    allowed = {family for family in range(100) if run_bpf(program, number, audit, (family, *NONE[1:])) == ALLOW}
    assert {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET} <= allowed
    assert not allowed & {socket.AF_ALG, socket.AF_VSOCK}


def test_the_upper_half_of_an_int_argument_does_not_evade_the_filter() -> None:
    # The kernel would cut this to AF_ALG.
    program, (audit, _, _) = program_for("x86_64"), ABIS["x86_64"]
    for upper in (1 << 32, 1 << 63, 0xFFFFFFFF << 32):
        args = (upper | socket.AF_ALG, *NONE[1:])
        assert run_bpf(program, NUMBERS["x86_64"]["socket"], audit, args) == EPERM


def test_a_clone_flag_is_found_among_others() -> None:
    program, (audit, _, _) = program_for("x86_64"), ABIS["x86_64"]
    clone = NUMBERS["x86_64"]["clone"]
    thread = 0x3D0F00
    assert run_bpf(program, clone, audit, (thread, *NONE[1:])) == ALLOW
    for name in ("NS", "CGROUP", "UTS", "IPC", "USER", "PID", "NET"):
        flag = getattr(linux, f"CLONE_NEW{name}")
        for others in (0, thread, 1 << 40):
            assert run_bpf(program, clone, audit, (flag | others, *NONE[1:])) == EPERM, name


def test_x32_calls_do_not_exist() -> None:
    program, (audit, _, _) = program_for("x86_64"), ABIS["x86_64"]
    assert {run_bpf(program, 0x40000000 | number, audit) for number in range(600)} == {ENOSYS}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_foreign_abi_kills(machine: str) -> None:
    program = seccomp.compile_profile(PROFILE, capabilities.DEFAULT, machine, NUMBERS)
    own = {audit for audit, name, _ in ABIS.values() if name == machine}
    foreign = {audit for audit, name, _ in ABIS.values() if name != machine} | {0, 0x80000016, 0xC00000F3}
    assert {run_bpf(program, 0, audit) for audit in foreign} == {KILL}
    assert KILL not in {run_bpf(program, 0, audit) for audit in own}


# --- the compiler


@given(
    st.sampled_from(["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"]),
    st.integers(0, 5),
    st.data(),
)
def test_each_operator_compares_all_64_bits(name: Operator, index: int, data: st.DataObject) -> None:
    near = st.builds(lambda high, low: high << 32 | low, st.integers(0, 2), st.integers(0, 2))
    word = st.one_of(st.integers(0, (1 << 64) - 1), near)
    value = data.draw(word)
    comparison: Comparison = (index, name, value)
    if name == "MASKED_EQ":
        comparison = (index, name, value, data.draw(word) & value)
    argument = data.draw(st.one_of(word, st.just(value), st.just(value ^ 1 << 32)))
    args = tuple(argument if position == index else 7 for position in range(6))
    profile = one_rule({"names": ["socket"], "any_of": [comparison]})
    program = seccomp.compile_profile(profile, frozenset(), "x86_64", NUMBERS)
    wanted = ALLOW if holds(comparison, args) else EPERM
    assert run_bpf(program, NUMBERS["x86_64"]["socket"], ABIS["x86_64"][0], args) == wanted


def test_jumps_longer_than_eight_bits() -> None:
    rules: list[Rule] = [
        {"names": [name], "any_of": [(0, "EQ", value) for value in range(number, number + 40)]}
        for number, name in enumerate(("read", "open", "stat", "poll", "mmap", "ioctl", "pipe", "dup"))
    ]
    profile = one_rule({"names": ["removexattrat"]})
    profile["rules"] += rules
    program = seccomp.compile_profile(profile, frozenset(), "x86_64", NUMBERS)
    assert len(program) // 8 > 3 * 255
    for rule in rules:
        for value in range(80):
            args = (value, *NONE[1:])
            number = NUMBERS["x86_64"][rule["names"][0]]
            wanted = expected(profile, frozenset(), "x86_64", number, args)
            assert run_bpf(program, number, ABIS["x86_64"][0], args) == wanted


def test_a_rule_without_conditions_wins() -> None:
    profile = one_rule({"names": ["socket"], "any_of": [(0, "EQ", 2)]})
    profile["rules"].append({"names": ["socket"]})
    program = seccomp.compile_profile(profile, frozenset(), "x86_64", NUMBERS)
    assert run_bpf(program, NUMBERS["x86_64"]["socket"], ABIS["x86_64"][0]) == ALLOW


def test_a_rule_for_a_newer_kernel_is_left_out() -> None:
    for version, wanted in (([4, 8], ALLOW), ([99, 0], EPERM)):
        profile = one_rule({"names": ["ptrace"], "min_kernel": version})
        program = seccomp.compile_profile(profile, frozenset(), "x86_64", NUMBERS)
        assert run_bpf(program, NUMBERS["x86_64"]["ptrace"], ABIS["x86_64"][0]) == wanted


def test_contradicting_rules_are_refused() -> None:
    profile = one_rule({"names": ["socket"], "errno": 38})
    profile["rules"].append({"names": ["socket"]})
    with pytest.raises(ValueError, match=r"two rules decide differently about system call \d+: \['socket'\]"):
        seccomp.compile_profile(profile, frozenset(), "x86_64", NUMBERS)


@pytest.mark.parametrize("comparison", [(6, "EQ", 0), (-1, "EQ", 0), (0, "LIKE", 0)])
def test_impossible_comparisons_are_refused(comparison: Comparison) -> None:
    profile = one_rule({"names": ["socket"], "any_of": [comparison]})
    with pytest.raises(ValueError, match=r"no argument|unknown operator LIKE"):
        seccomp.compile_profile(profile, frozenset(), "x86_64", NUMBERS)


def test_a_program_too_long_for_the_kernel_is_refused() -> None:
    profile = one_rule({"names": ["socket"], "any_of": [(0, "EQ", value) for value in range(1000)]})
    with pytest.raises(ValueError, match="the kernel accepts 4096"):
        seccomp.compile_profile(profile, frozenset(), "x86_64", NUMBERS)


def test_an_unknown_machine_is_an_error() -> None:
    with pytest.raises(OSError, match="no filter for pdp11") as caught:
        seccomp.compile_profile(PROFILE, frozenset(), "pdp11", NUMBERS)
    assert caught.value.errno == errno.ENOSYS


def test_the_profile_names_its_origin() -> None:
    assert "moby" in PROFILE["origin"] and "Apache-2.0" in PROFILE["licence"] and PROFILE["version"]
    assert all(name.isidentifier() for rule in PROFILE["rules"] for name in rule["names"])


def test_the_module_imports_little() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import pybuild.builder.sandbox.seccomp; print(*sys.modules)"
    argv = [sys.executable, "-SIc", code, str(Path(pybuild.__file__).parents[1])]
    loaded = set(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split())
    assert "json" in loaded
    assert not loaded & {"typing", "dataclasses", "inspect", "pathlib", "subprocess", "socket", "pybuild.parser"}


# --- the kernel


def errno_of(number: int, *args: int) -> int:
    """Make a call by number; 0 for success."""
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(arg) for arg in args))
    return ctypes.get_errno() if result == -1 else 0


def probe(calls: dict[str, tuple[int, ...]]) -> dict[str, str]:
    table = NUMBERS[syscalls.machine()]
    return {name: errno.errorcode.get(errno_of(table[name], *args), "OK") for name, args in calls.items()}


# Arguments for which an unfiltered kernel never returns EPERM, for any user.
HARMLESS: dict[str, tuple[int, ...]] = {
    "unshare": (0,),
    "mount": (0, 0, 0, 0, 0),
    "setns": (-1, 0),
    "fsmount": (-1, 0, 0),
    "keyctl": (9999, 0, 0),
    "add_key": (0, 0, 0, 0, 0),
    "request_key": (0, 0, 0, 0),
}
PRIVILEGED: dict[str, tuple[int, ...]] = {
    "umount2": (0, 0),
    "move_mount": (-1, 0, -1, 0, 0),
    "open_tree": (-1, 0, 0),
    "mount_setattr": (-1, 0, 0, 0, 0),
    "pivot_root": (0, 0),
    "bpf": (0, 0, 0),
    "perf_event_open": (0, 0, -1, -1, 0),
    "userfaultfd": (0,),
    "io_uring_setup": (1, 0),
    "io_uring_enter": (-1, 0, 0, 0, 0, 0),
    "io_uring_register": (-1, 0, 0, 0),
    "open_by_handle_at": (-1, 0, 0),
    "kexec_load": (0, 0, 0, 0),
    "init_module": (0, 0, 0),
    "sethostname": (0, 0),
    "reboot": (0, 0, 0, 0),
    "syslog": (10, 0, 0),
}


def filtered(enter_namespaces: EnterNamespaces) -> None:
    """Like the sandbox: load the filter with capabilities over a user namespace, then drop them."""
    enter_namespaces()
    program = seccomp.load_filter()
    assert not no_new_privs()
    linux.seccomp_set_mode_filter(program)
    capabilities.limit_bounding_set(capabilities.DEFAULT_MASK)
    linux.capset(capabilities.DEFAULT_MASK, capabilities.DEFAULT_MASK, 0)


def test_the_kernel_denies_what_it_would_do_without_the_filter(
    in_child: InChild, enter_namespaces: EnterNamespaces
) -> None:
    def without() -> dict[str, str]:
        enter_namespaces()
        return probe(HARMLESS)

    def within() -> dict[str, str]:
        filtered(enter_namespaces)
        return probe(HARMLESS)

    assert "EPERM" not in in_child(without).values()
    assert set(in_child(within).values()) == {"EPERM"}


def test_the_kernel_denies_privileged_calls(in_child: InChild, enter_namespaces: EnterNamespaces) -> None:
    def job() -> dict[str, str]:
        filtered(enter_namespaces)
        return probe(PRIVILEGED)

    assert in_child(job) == dict.fromkeys(PRIVILEGED, "EPERM")


def test_the_kernel_answers_enosys_for_clone3_and_unknown_calls(
    in_child: InChild, enter_namespaces: EnterNamespaces
) -> None:
    def job() -> list[int]:
        filtered(enter_namespaces)
        numbers = [NUMBERS[syscalls.machine()]["clone3"], NUMBERS[syscalls.machine()]["open_tree_attr"], 600, 5000]
        return [errno_of(number, 0, 0, 0, 0, 0) for number in numbers]

    assert in_child(job) == [errno.ENOSYS] * 4


def test_the_kernel_denies_address_families(in_child: InChild, enter_namespaces: EnterNamespaces) -> None:
    families = {"AF_ALG": socket.AF_ALG, "AF_VSOCK": socket.AF_VSOCK, "upper half": 1 << 32 | socket.AF_ALG}

    def job() -> dict[str, int]:
        filtered(enter_namespaces)
        number = NUMBERS[syscalls.machine()]["socket"]
        return {name: errno_of(number, family, socket.SOCK_SEQPACKET, 0) for name, family in families.items()}

    assert in_child(job) == dict.fromkeys(families, errno.EPERM)


def test_ordinary_work_goes_on(in_child: InChild, enter_namespaces: EnterNamespaces, tmp_path: Path) -> None:
    def job() -> tuple[str, list[int], int, bool]:
        filtered(enter_namespaces)
        (tmp_path / "file").write_text("text")
        (tmp_path / "file").rename(tmp_path / "other")
        os.chown(tmp_path / "other", 0, 0)
        os.mkfifo(tmp_path / "fifo")
        for family in (socket.AF_UNIX, socket.AF_INET):
            socket.socket(family, socket.SOCK_STREAM).close()
        answers: list[int] = []
        thread = threading.Thread(target=lambda: answers.append(1))
        thread.start()
        thread.join()
        command = f'read word < {tmp_path}/other; echo "$word" | sed s/text/done/'
        output = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False).stdout
        os.setgid(0)
        os.setuid(0)
        return output, answers, os.getuid(), no_new_privs()

    assert in_child(job) == ("done\n", [1], 0, False)


def test_children_inherit_the_filter_through_exec(in_child: InChild, enter_namespaces: EnterNamespaces) -> None:
    code = "import os, ctypes; l = ctypes.CDLL(None, use_errno=True); l.unshare(0); print(ctypes.get_errno())"

    def job() -> str:
        filtered(enter_namespaces)
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert in_child(job) == f"{errno.EPERM}\n"


def test_the_filter_needs_power_over_the_namespace(in_child: InChild, enter_namespaces: EnterNamespaces) -> None:
    program = seccomp.load_filter()

    def job() -> None:
        enter_namespaces()
        linux.capset(0, 0, 0)
        linux.seccomp_set_mode_filter(program)

    with pytest.raises(PermissionError, match="seccomp"):
        in_child(job)


def test_every_filter_is_accepted_by_the_kernel(in_child: InChild, enter_namespaces: EnterNamespaces) -> None:
    machine = syscalls.machine()

    def load(caps: frozenset[str]) -> Callable[[], int]:
        def job() -> int:
            enter_namespaces()
            linux.seccomp_set_mode_filter(seccomp.compile_profile(PROFILE, caps, machine, NUMBERS))
            return errno_of(NUMBERS[machine]["getpid"])

        return job

    assert [in_child(load(caps)) for caps in CAPABILITY_SETS.values()] == [0, 0, 0, 0]
