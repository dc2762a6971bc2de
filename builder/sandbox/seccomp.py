"""The seccomp filter of a build step: Docker's default profile, compiled to classic BPF without libseccomp.

`seccomp_profile.json` is the profile as data, `syscall_numbers.json` has the numbers of four ABIs. The first of these
that applies decides a call:

    an ABI other than the machine's own and its 32-bit sibling       the process is killed
    a rule without argument conditions                               its action
    one of a call's argument conditions holds                        the action of that rule
    a number above all in the profile, also x32 calls                ENOSYS, so that a C library falls back
    anything else                                                    EPERM

A limit of filters: they cannot read memory, where the arguments of i386's `socketcall` are. So a 32-bit program on
x86_64 can use every address family through it. Only a security module prevents that.

The sandbox worker, which runs as `python -SI`, imports this module: standard library only, and little of it.

Sources: Documentation/userspace-api/seccomp_filter.rst; include/uapi/linux/{seccomp,audit,bpf_common,filter}.h of Linux
6.18; for ENOSYS above the profile, what runc does.
"""

from __future__ import annotations

import errno
import json
import os
import struct

from pybuild.builder.sandbox import capabilities, linux
from pybuild.store.system import syscalls

# Instead of typing.TYPE_CHECKING: importing typing takes longer than compiling the filter.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Final, Literal, NotRequired, TypeAlias, TypedDict

    Operator: TypeAlias = Literal["EQ", "NE", "LT", "LE", "GE", "GT", "MASKED_EQ"]
    # [argument index, operator, value]; for MASKED_EQ [index, operator, mask, value].
    Comparison: TypeAlias = tuple[int, Operator, int] | tuple[int, Operator, int, int]

    class Rule(TypedDict):
        """System calls by name, and the action: allow, or fail with `errno`. `any_of` conditions are alternatives.

        The rule applies if the `if_` fields hold (all capabilities, one of the architectures) and no `unless_` field
        does. Architectures have Docker's names and mean the machine's own, also for calls through its 32-bit sibling.
        """

        names: list[str]
        any_of: NotRequired[list[Comparison]]
        errno: NotRequired[int]
        if_caps: NotRequired[list[str]]
        if_arches: NotRequired[list[str]]
        min_kernel: NotRequired[list[int]]
        unless_caps: NotRequired[list[str]]
        unless_arches: NotRequired[list[str]]

    class Profile(TypedDict):
        """seccomp_profile.json."""

        origin: str
        version: str
        licence: str
        default_errno: int
        rules: list[Rule]

    Numbers: TypeAlias = Mapping[str, Mapping[str, int]]
    # For one call number: conditions, each with the value to return if it holds, and the value to return otherwise.
    Decision: TypeAlias = tuple[tuple[tuple[Comparison, int], ...], int]
    # (opcode, jump if true, jump if false, constant); a jump is the number of instructions to skip.
    Instruction: TypeAlias = tuple[int, int, int, int]

SECCOMP_RET_KILL_PROCESS: Final = 0x80000000
SECCOMP_RET_ERRNO: Final = 0x00050000
SECCOMP_RET_ALLOW: Final = 0x7FFF0000

AUDIT_ARCH_I386: Final = 0x40000003
AUDIT_ARCH_X86_64: Final = 0xC000003E
AUDIT_ARCH_ARM: Final = 0x40000028
AUDIT_ARCH_AARCH64: Final = 0xC00000B7

# Opcodes of classic BPF: load a 32-bit word of struct seccomp_data; and; jumps; return.
_LD: Final = 0x20
_AND: Final = 0x54
_JA: Final = 0x05
_JEQ: Final = 0x15
_JGT: Final = 0x25
_JGE: Final = 0x35
_RET: Final = 0x06

# struct seccomp_data: int nr; u32 arch; u64 instruction_pointer; u64 args[6].
_OFFSET_NR: Final = 0
_OFFSET_ARCH: Final = 4
_OFFSET_ARGS: Final = 16

_MAX_JUMP: Final = 255
_WORD: Final = 0xFFFFFFFF
# ARM has a few private calls from this number on, far above the ordinary ones.
_ARM_PRIVATE_BASE: Final = 0x0F0000
# Rules for kernels up to this one always apply, because pybuild itself needs it (mount_setattr).
_OLDEST_KERNEL: Final = (5, 12)

# machine: (Docker's name for it, the ABIs as (audit number, table of syscall_numbers.json))
_ABIS: Final = {
    "x86_64": ("amd64", ((AUDIT_ARCH_X86_64, "x86_64"), (AUDIT_ARCH_I386, "i386"))),
    "aarch64": ("arm64", ((AUDIT_ARCH_AARCH64, "aarch64"), (AUDIT_ARCH_ARM, "arm"))),
}

# --- which rules apply -----------------------------------------------------------------------------------------------


def _applies(rule: Rule, caps: frozenset[str], arch: str) -> bool:
    return (
        caps.issuperset(rule.get("if_caps", ()))
        and caps.isdisjoint(rule.get("unless_caps", ()))
        and arch in rule.get("if_arches", (arch,))
        and arch not in rule.get("unless_arches", ())
        and tuple(rule.get("min_kernel", ())) <= _OLDEST_KERNEL
    )


def _decisions(profile: Profile, rules: Iterable[Rule], table: Mapping[str, int]) -> dict[int, Decision]:
    """The decision for each call number of one ABI that the rules name."""
    default = SECCOMP_RET_ERRNO | profile["default_errno"]
    found: dict[int, Decision] = {}
    for rule in rules:
        action = SECCOMP_RET_ERRNO | rule["errno"] if "errno" in rule else SECCOMP_RET_ALLOW
        for number in {table[name] for name in rule["names"] if name in table}:
            alternatives, otherwise = found.get(number, ((), default))
            conditions = rule.get("any_of")
            if conditions is not None:
                alternatives += tuple((comparison, action) for comparison in conditions)
            elif otherwise in (default, action):
                otherwise = action
            else:
                raise ValueError(f"two rules decide differently about system call {number}: {rule['names']}")
            found[number] = (alternatives, otherwise)
    # A rule without conditions wins over those with some, as in libseccomp.
    return {
        number: (alternatives if otherwise == default else (), otherwise)
        for number, (alternatives, otherwise) in found.items()
    }


def _segments(profile: Profile, rules: Iterable[Rule], table: Mapping[str, int]) -> list[tuple[int, Decision]]:
    """All call numbers, 0 to 2**32 - 1, as ranges with one decision each: (first number of the range, decision)."""
    default: Decision = ((), SECCOMP_RET_ERRNO | profile["default_errno"])
    unknown: Decision = ((), SECCOMP_RET_ERRNO | errno.ENOSYS)
    decisions = _decisions(profile, rules, table)
    named = {table[name] for rule in profile["rules"] for name in rule["names"] if name in table}
    newest = max(number for number in named if number < _ARM_PRIVATE_BASE)
    points: dict[int, Decision] = {number: decisions.get(number, default) for number in range(newest + 1)}
    points[newest + 1] = unknown
    for number in sorted(number for number in named if number > newest):
        points[number] = decisions.get(number, default)
        points.setdefault(number + 1, unknown)
    segments: list[tuple[int, Decision]] = []
    for number in sorted(points):
        if not segments or segments[-1][1] != points[number]:
            segments.append((number, points[number]))
    return segments


# --- instructions ----------------------------------------------------------------------------------------------------


def _comparison(comparison: Comparison, action: int) -> list[Instruction]:
    """Instructions that return `action` if the comparison holds, and else continue after them.

    An argument has 64 bits and the accumulator 32, so the high half decides unless it is equal. All 64 bits must be
    compared: the kernel cuts an `int` argument to 32 bits, and a high half could evade a test of the low half alone.
    """
    index, operator, value, *more = comparison
    if not 0 <= index <= 5:
        raise ValueError(f"a system call has no argument {index}")
    high, low = value >> 32, value & _WORD
    load_low = (_LD, "", "", _OFFSET_ARGS + 8 * index)
    load_high = (_LD, "", "", _OFFSET_ARGS + 8 * index + 4)
    yes, no = "match", "fail"
    match operator:
        case "NE" | "GE" | "LE":
            yes, no = no, yes
        case "EQ" | "LT" | "GT" | "MASKED_EQ":
            pass
        case _:
            raise ValueError(f"unknown operator {operator}")
    # "" continues with the next instruction.
    code: list[tuple[int, str, str, int]]
    match operator:
        case "EQ" | "NE":
            code = [load_high, (_JEQ, "", no, high), load_low, (_JEQ, yes, no, low)]
        case "LT" | "GE":
            code = [load_high, (_JGE, "", yes, high), (_JEQ, "", no, high), load_low, (_JGE, no, yes, low)]
        case "GT" | "LE":
            code = [load_high, (_JGT, yes, "", high), (_JEQ, "", no, high), load_low, (_JGT, yes, no, low)]
        case "MASKED_EQ":
            wanted = more[0]
            code = [load_high, (_AND, "", "", high), (_JEQ, "", no, wanted >> 32)]
            code += [load_low, (_AND, "", "", low), (_JEQ, yes, no, wanted & _WORD)]
    end = len(code)

    def skip(position: int, target: str) -> int:
        return {"": 0, "match": end - position - 1, "fail": end - position}[target]

    resolved = [(op, skip(at, true), skip(at, false), k) for at, (op, true, false, k) in enumerate(code)]
    return [*resolved, (_RET, 0, 0, action)]


def _leaf(decision: Decision) -> list[Instruction]:
    alternatives, otherwise = decision
    code = [instruction for comparison, action in alternatives for instruction in _comparison(comparison, action)]
    return [*code, (_RET, 0, 0, otherwise)]


def _tree(segments: list[tuple[int, Decision]]) -> list[Instruction]:
    """A balanced decision tree over the ranges; the call number is in the accumulator."""
    if len(segments) == 1:
        return _leaf(segments[0][1])
    middle = len(segments) // 2
    left, right = _tree(segments[:middle]), _tree(segments[middle:])
    boundary = segments[middle][0]
    if len(left) <= _MAX_JUMP:
        return [(_JGE, len(left), 0, boundary), *left, *right]
    # Conditional jumps have 8 bits, the unconditional one 32.
    return [(_JGE, 0, 1, boundary), (_JA, 0, 0, len(left)), *left, *right]


def compile_profile(profile: Profile, caps: frozenset[str], machine: str, numbers: Numbers) -> bytes:
    """Compile the profile to an array of `struct sock_filter` for seccomp(2).

    `caps` are the names in the bounding set of the filtered process, `machine` is `x86_64` or `aarch64`, `numbers` maps
    an ABI to its names and numbers. OSError (ENOSYS): another machine. ValueError: the profile contradicts itself, or
    needs more than the 4096 instructions that the kernel accepts.
    """
    if machine not in _ABIS:
        raise OSError(errno.ENOSYS, f"seccomp: pybuild has no filter for {machine}")
    arch, abis = _ABIS[machine]
    rules = [rule for rule in profile["rules"] if _applies(rule, caps, arch)]
    program: list[Instruction] = [(_LD, 0, 0, _OFFSET_ARCH)]
    for audit, table in abis:
        body = [(_LD, 0, 0, _OFFSET_NR), *_tree(_segments(profile, rules, numbers[table]))]
        program += [(_JEQ, 1, 0, audit), (_JA, 0, 0, len(body)), *body]
    program.append((_RET, 0, 0, SECCOMP_RET_KILL_PROCESS))
    if len(program) > linux.BPF_MAXINSNS:
        raise ValueError(f"the filter has {len(program)} instructions, the kernel accepts {linux.BPF_MAXINSNS}")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _read(name: str) -> bytes:
    """A file of this package. Python's loader reads it, so it works in a zip archive too."""
    directory = os.path.dirname(__file__)
    data: bytes = __loader__.get_data(os.path.join(directory, name))  # type: ignore[name-defined]
    return data


def read_profile() -> Profile:
    """Docker's default profile, from the file beside this module."""
    profile: Profile = json.loads(_read("seccomp_profile.json"))
    return profile


def read_numbers() -> dict[str, dict[str, int]]:
    """The system call numbers by ABI: x86_64, i386, aarch64, arm."""
    content: dict[str, dict[str, int]] = json.loads(_read("syscall_numbers.json"))
    return {name: table for name, table in content.items() if name != "kernel"}


def load_filter(caps: frozenset[str] = capabilities.DEFAULT) -> bytes:
    """The program for this machine and a step with these capabilities, for `linux.seccomp_set_mode_filter`.

    This takes some milliseconds, so a worker calls it once, before it forks. OSError (ENOSYS): an unsupported machine.
    """
    return compile_profile(read_profile(), caps, syscalls.machine(), read_numbers())
