"""The handlers of a user namespace: its own, and those of the namespace above, which stands for the machine here."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.host.processors import PROCESSORS
from pybuild.builder.sandbox import emulators
from pybuild.builder.sandbox.emulators import MACHINE, OWN, Emulators, Found, Wanted, starts
from tests.support.foreign import foreign_emulator, machines_handlers

if TYPE_CHECKING:
    from tests.builder.sandbox.conftest import EnterNamespaces, InChild


def wanted(name: str, path: str = "", *, always: bool = False, check: bool = False, native: bool = False) -> Wanted:
    processor = PROCESSORS[name]
    return Wanted(name, processor.trial.hex(), processor.rule(name, path) if path else "", always, check, native)


def arm64(**attributes: bool) -> Wanted:
    return wanted("arm64", foreign_emulator("aarch64"), **attributes)


ARM = wanted("arm", foreign_emulator("arm"))


Machine = tuple[str, ...]  # the processors, by QEMU's name, for which the namespace above has handlers


def on(enter: EnterNamespaces, machine: Machine, *asked: Wanted) -> dict[str, Found]:
    """Ask for processors in a namespace on such a machine; say what came of it, and try each."""
    names = {processor.qemu: name for name, processor in PROCESSORS.items()}
    enter()
    above = Emulators()  # its handlers last as long as it does
    assert set(above.add([wanted(names[one], foreign_emulator(one)) for one in machine]).values()) <= {Found(OWN)}
    enter()
    ours = Emulators()
    found = ours.add(list(asked))
    assert ours.add(list(asked)) == found
    assert {name: starts(PROCESSORS[name].trial.hex()) for name in found} == {name: bool(found[name].by) for name in found}
    return found


NO_S390X = Found("")
LOST = Found("", errno.EBUSY, "it would hide the machine's own for riscv64")


@pytest.mark.parametrize(
    ("machine", "asked", "expected"),
    [
        pytest.param((), [wanted("386", native=True)], {"386": Found(MACHINE)}, id="32 bits of this processor"),
        pytest.param((), [arm64(), wanted("s390x")], {"arm64": Found(OWN), "s390x": NO_S390X}, id="only one has an emulator"),
        pytest.param(("aarch64",), [arm64()], {"arm64": Found(MACHINE)}, id="the machine has a handler"),
        pytest.param(("aarch64",), [arm64(always=True)], {"arm64": Found(OWN)}, id="and the user names another"),
        pytest.param(
            ("aarch64",), [arm64(), ARM, wanted("386", native=True)],
            {"arm64": Found(OWN), "arm": Found(OWN), "386": Found(MACHINE)}, id="the machine's is kept beside another",
        ),
        pytest.param(
            ("aarch64", "riscv64"), [arm64(), wanted("riscv64"), ARM, wanted("s390x")],
            {"arm64": Found(MACHINE), "riscv64": Found(MACHINE), "arm": LOST, "s390x": replace(LOST, errno=0)},
            id="the machine's cannot be kept",
        ),
    ],
)  # fmt: skip
def test_who_starts_the_programs(
    in_child: InChild,
    enter_namespaces: EnterNamespaces,
    machine: Machine,
    asked: list[Wanted],
    expected: dict[str, Found],
) -> None:
    before = machines_handlers()
    assert in_child(lambda: on(enter_namespaces, machine, *asked)) == expected
    assert machines_handlers() == before


def test_what_fails_is_told(
    in_child: InChild, enter_namespaces: EnterNamespaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    def job() -> list[dict[str, Found]]:
        enter_namespaces()
        found = [
            Emulators().add([wanted("arm64", "/nothing")]),
            Emulators().add([wanted("arm64", foreign_emulator("arm"), check=True)]),
        ]

        def refuse(kind: str, options: object, attributes: int) -> int:
            raise PermissionError(errno.EPERM, "refused")

        monkeypatch.setattr(emulators, "new_mount", refuse)
        return [*found, Emulators().add([arm64()])]

    assert in_child(job) == [
        {"arm64": Found("", errno.ENOENT, "No such file or directory")},
        {"arm64": Found("", errno.ENOEXEC, "it does not start a program")},
        {"arm64": Found("", errno.EPERM, "mount")},
    ]


def test_a_trial_that_does_not_end_is_given_up(
    in_child: InChild, enter_namespaces: EnterNamespaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulators, "_TRIAL_SECONDS", 0.02)
    loop = PROCESSORS["amd64"].trial.replace(bytes.fromhex("31ff"), bytes.fromhex("ebfe"))  # jump to itself

    def job() -> list[bool]:
        enter_namespaces()
        return [starts(loop.hex()), starts("00"), starts("")]

    assert in_child(job) == [False, False, False]
