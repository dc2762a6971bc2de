"""How processors are recognised, which emulator is taken, and what a refusal says."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path

import pytest

from pybuild.builder.errors import PrivilegeError
from pybuild.builder.host.emulators import (
    NotUsable,
    check_emulator,
    emulator_for,
    machine_emulators,
    named_emulators,
    refusal,
    wanted,
)
from pybuild.builder.host.processors import PROCESSORS, processor_name
from pybuild.builder.sandbox.emulators import Found
from pybuild.remote.errors import ConfigError
from pybuild.store.formats.platform import Platform
from tests.support.foreign import busybox, foreign_emulator

# Debian's /usr/lib/binfmt.d, without the bytes of the ABI, which the kernel's own loader ignores too.
ABI, ALL = r"\x00" * 9, r"\xff" * 7
AARCH64 = rf":pybuild-arm64:M::\x7f\x45\x4c\x46\x02\x01\x01{ABI}\x02\x00\xb7\x00:{ALL}{ABI}\xfe\xff\xff\xff:/q:POCF"
S390X = rf":pybuild-s390x:M::\x7f\x45\x4c\x46\x02\x02\x01{ABI}\x00\x02\x00\x16:{ALL}{ABI}\xff\xfe\xff\xff:/q:POCF"
HANDLER = "enabled\ninterpreter /usr/bin/{name}\nflags: {flags}\noffset 0\nmagic 7f454c4602010100000000000000000002{magic}\n"


def test_the_rules_are_those_of_the_kernels_documentation() -> None:
    assert PROCESSORS["arm64"].rule("arm64", "/q") == AARCH64
    assert PROCESSORS["s390x"].rule("s390x", "/q") == S390X
    assert PROCESSORS["arm64"].rule("arm64", "/a:b").startswith("|pybuild-arm64|M||")


@pytest.mark.parametrize("name", ["arm64", "arm"])
def test_a_rule_recognises_real_programs_of_its_processor(name: str) -> None:
    program = busybox(name)
    assert [other for other in PROCESSORS if PROCESSORS[other].recognises(program)] == [name]


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_trial_is_a_program_of_its_processor_only(name: str, tmp_path: Path) -> None:
    trial = PROCESSORS[name].trial
    assert [other for other in PROCESSORS if PROCESSORS[other].recognises(trial)] == [name]
    emulators = {"arm64": [foreign_emulator("aarch64")], "arm": [foreign_emulator("arm")], "riscv64": [foreign_emulator("riscv64")]}
    if name in ("amd64", "386", *emulators):
        (tmp_path / "trial").write_bytes(trial)
        (tmp_path / "trial").chmod(0o755)
        assert subprocess.run([*emulators.get(name, []), tmp_path / "trial"]).returncode == 0


@pytest.mark.parametrize(
    ("text", "name"), [("aarch64", "arm64"), ("armhf", "arm"), ("x86_64", "amd64"), ("S390X", "s390x"), ("vax", None), ("", None)]
)
def test_names_of_processors(text: str, name: str | None) -> None:
    assert processor_name(text) == name


def test_the_machines_own_emulators_come_after_installed_ones(tmp_path: Path) -> None:
    for file, flags, magic in (
        ("qemu-riscv64", "POCF", "00f300"),
        ("by-path", "POC", "001500"),
        ("jar", "", "00b700"),
    ):
        (tmp_path / file).write_text(HANDLER.format(name=file, flags=flags, magic=magic))
    (tmp_path / "register").write_text("")
    (tmp_path / "disabled").write_text(HANDLER.format(name="x", flags="F", magic="00b700").replace("enabled", "disabled"))
    found = {name: machine_emulators(name, str(tmp_path)) for name in ("riscv64", "ppc64le", "arm64")}
    assert found == {"riscv64": ["/usr/bin/qemu-riscv64"], "ppc64le": [], "arm64": []}
    assert machine_emulators("arm64", str(tmp_path / "none")) == []
    emulator = emulator_for("riscv64", {}, str(tmp_path))
    assert emulator is not None and emulator.path == foreign_emulator("riscv64")


def test_a_processor_without_an_emulator(tmp_path: Path) -> None:
    assert emulator_for("s390x", {}, str(tmp_path)) is None and emulator_for("vax", {}, str(tmp_path)) is None
    (one,) = wanted(["vax"], {})
    assert (one.rule, one.trial) == ("", "")


def test_an_emulator_is_a_static_program_of_this_machine(tmp_path: Path) -> None:
    check_emulator(foreign_emulator("arm"))
    (tmp_path / "foreign").write_bytes(busybox("arm"))
    (tmp_path / "foreign").chmod(0o755)
    (tmp_path / "short").write_bytes(PROCESSORS["amd64"].trial[:40])
    (tmp_path / "short").chmod(0o755)
    for path, said in (
        ("qemu", "expected an absolute path"),
        (str(tmp_path / "foreign"), "is not a program for linux/amd64"),
        (str(tmp_path / "short"), "is not a static program"),
        (str(tmp_path), "Is a directory"),
    ):
        with pytest.raises(NotUsable, match=said):
            check_emulator(path)
    with pytest.raises(PrivilegeError, match="the emulator of arm64 cannot be used: qemu: expected an absolute path"):
        wanted(["arm64"], {"arm64": "qemu"})


def test_emulators_of_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[emulators]\naarch64 = "/configured"\nriscv64 = "/configured"\n')
    environ = {"PYBUILD_CONFIG": str(config)}
    assert named_emulators(environ, {"riscv64": "/given"}) == {"arm64": "/configured", "riscv64": "/given"}
    config.write_text('[emulators]\nvax = "/configured"\n')
    with pytest.raises(ConfigError, match=r"emulators.vax: unknown processor"):
        named_emulators(environ, {})


@pytest.mark.parametrize(
    ("found", "message", "hint"),
    [
        (Found(""), "there is no emulator for riscv64", "apt-get install qemu-user-static"),
        (Found("", errno.EPERM, "mount"), "the kernel refuses the steps an emulator of their own (needs Linux 6.7)", "for the whole machine"),
        (Found("", errno.ENODEV, "mount"), "(No such device)", "CONFIG_BINFMT_MISC"),
        (Found("", errno.ENOEXEC, "it does not start a program"), "the emulator cannot be used: it does not", "--emulator riscv64=PATH"),
    ],
)
def test_a_refusal_names_what_would_help(found: Found, message: str, hint: str) -> None:
    error = refusal(Platform("linux", "riscv64"), found)
    assert f"RUN for linux/riscv64 on {Platform.host()}: " in str(error)
    assert message in str(error)
    assert hint in (error.hint or "")


@pytest.mark.parametrize("path", ["/opt/q:|;,!", "/opt/q:|;,!\x01", "/opt/:|;,!" + "".join(map(chr, range(1, 32)))])
def test_any_path_makes_a_rule(path: str) -> None:
    assert path in PROCESSORS["arm64"].rule("arm64", path)
