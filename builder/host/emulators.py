"""Which emulator runs the programs of another processor: one that the user names, an installed one, or the machine's.

A static QEMU needs nothing of an image, so one that is installed is enough: the worker registers it for the namespace of
the steps (builder/sandbox/emulators.py), and the handlers of the machine are not touched.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING

from pybuild.builder.errors import PrivilegeError
from pybuild.builder.host.obstacles import SEE_DOCTOR
from pybuild.builder.host.processors import PROCESSORS, processor_name
from pybuild.builder.sandbox.emulators import Wanted
from pybuild.remote.errors import ConfigError
from pybuild.remote.registry.config_files import configuration_files
from pybuild.store.formats.platform import Platform
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pybuild.builder.sandbox.emulators import Found

BINFMT = "/proc/sys/fs/binfmt_misc"
_DIRECTORIES = ("/usr/bin", "/usr/local/bin")
_PT_INTERP = 3
_TOO = {
    ("amd64", "386"),
    ("arm64", "arm"),
}  # a machine, and a processor whose programs it starts without an emulator, mostly
INSTALL = "apt-get install qemu-user-static (Debian 12, Ubuntu) or qemu-user (Debian 13)"


@frozen
class Emulator:
    """The path of a program. `given`: the user named it."""

    path: str
    given: bool = False


class NotUsable(Exception):
    """A program is not one that the kernel could start in the place of programs of another processor."""


def named_emulators(environ: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The emulators that the user names: `given`, then those of the configuration files. Raises ConfigError."""
    if not any(required or os.path.exists(path) for path, required in configuration_files(environ)):
        return dict(given)
    from pybuild.remote.registry.config import Config  # a local import: most users have no such file

    found = {}
    for name, path in Config.load(environ).emulators.items():
        architecture = processor_name(name)
        if architecture is None:
            raise ConfigError(f"emulators.{name}: unknown processor", hint=f"known are {', '.join(PROCESSORS)}")
        found[architecture] = path
    return found | dict(given)


def emulator_for(architecture: str, given: Mapping[str, str], binfmt: str = BINFMT) -> Emulator | None:
    """The emulator of a processor, by Go's name; None if there is none. Raises NotUsable for one that the user named."""
    if architecture not in PROCESSORS:
        return None
    if architecture in given:
        check_emulator(given[architecture])
        return Emulator(given[architecture], given=True)
    name = PROCESSORS[architecture].qemu
    candidates = [f"{directory}/qemu-{name}{suffix}" for directory in _DIRECTORIES for suffix in ("-static", "")]
    for path in (*candidates, *machine_emulators(architecture, binfmt)):
        try:
            check_emulator(path)
        except NotUsable:
            continue
        return Emulator(path)
    return None


def check_emulator(path: str) -> None:
    """Raise NotUsable unless this is a static program of this machine's processor, which needs no library of an image."""
    if not path.startswith("/"):
        raise NotUsable(f"{path}: expected an absolute path")
    processor = PROCESSORS.get(Platform.host().architecture)
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise NotUsable(f"{path}: {error.strerror}") from None
    if not os.access(path, os.X_OK):
        raise NotUsable(f"{path}: is not executable")
    if processor is None or not processor.recognises(head):
        raise NotUsable(f"{path}: is not a program for {Platform.host()}")
    if _has_interpreter(head):
        raise NotUsable(f"{path}: is not a static program, and images do not have its libraries")


def _has_interpreter(head: bytes) -> bool:
    """Whether the ELF file that begins so asks for a dynamic linker; elf(5)."""
    wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
    try:
        (start,) = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)
        size, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
        kinds = [struct.unpack_from(order + "I", head, start + number * size)[0] for number in range(count)]
    except struct.error:
        return True
    return _PT_INTERP in kinds


def machine_emulators(architecture: str, binfmt: str = BINFMT) -> list[str]:
    """The emulators of the machine's own handlers for this processor that work in a step: it holds them open (flag F)."""
    found = []
    try:
        names = sorted(name for name in os.listdir(binfmt) if name not in ("register", "status"))
    except OSError:
        return []
    for name in names:
        try:
            with open(f"{binfmt}/{name}", encoding="utf-8", errors="surrogateescape") as file:
                lines = file.read(4096).splitlines()
        except OSError:
            continue
        fields = dict(line.partition(" ")[::2] for line in lines)
        magic = fields.get("magic", "")
        if (
            "enabled" in fields
            and fields.get("offset", "0") == "0"
            and PROCESSORS[architecture].recognises(bytes.fromhex(magic))
            and "F" in fields.get("flags:", "")
        ):
            found.append(fields.get("interpreter", ""))
    return found


def wanted(
    architectures: Iterable[str], given: Mapping[str, str], *, check: bool = False, only_machine: bool = False
) -> list[Wanted]:
    """What the worker needs to know of these processors; `check` has it try each emulator, `only_machine` leaves it the
    handlers of the machine. Raises PrivilegeError if the user names a wrong program."""
    own, found = Platform.host().architecture, []
    for architecture in architectures:
        try:
            emulator = None if only_machine else emulator_for(architecture, given)
        except NotUsable as error:
            raise PrivilegeError(
                f"the emulator of {architecture} cannot be used: {error}",
                hint="--emulator, or the configuration, names it",
            ) from None
        processor = PROCESSORS.get(architecture)
        trial = "" if processor is None else processor.trial.hex()
        rule = "" if processor is None or emulator is None else processor.rule(architecture, emulator.path)
        given_here, native = emulator is not None and emulator.given, (own, architecture) in _TOO
        found.append(Wanted(architecture, trial, rule, given_here, check, native))
    return found


def refusal_in_place(platform: Platform) -> PrivilegeError:
    """The same with the isolation in-place, where the steps have no namespace that an emulator could belong to."""
    return PrivilegeError(
        f"RUN for {platform} on {Platform.host()}: with the isolation in-place only the emulators of the machine are there",
        hint=f"on the machine: docker run --privileged --rm tonistiigi/binfmt --install {platform.architecture}; or build with"
        " --isolation=container or full",
    )


def refusal(platform: Platform, found: Found) -> PrivilegeError:
    """The error of a RUN for a processor whose programs nothing starts here."""
    what = f"RUN for {platform} on {Platform.host()}"
    name = f"--emulator {platform.architecture}=PATH"
    if not found.errno:
        known = platform.architecture in PROCESSORS
        return PrivilegeError(
            f"{what}: there is no emulator for {platform.architecture}",
            hint=f"{INSTALL}, or name a static one with {name}; {SEE_DOCTOR}"
            if known
            else f"no RUN can be for {platform.architecture}; files can be copied from and to its images",
        )
    if found.text == "mount":
        old = found.errno in (errno.EPERM, errno.EINVAL)
        why = "needs Linux 6.7" if old else os.strerror(found.errno)
        return PrivilegeError(
            f"{what}: the kernel refuses the steps an emulator of their own ({why})",
            hint="Linux 6.7 or newer with CONFIG_BINFMT_MISC; or register the emulator for the whole machine: apt-get"
            " install qemu-user-static binfmt-support (Debian 12, Ubuntu), qemu-user-binfmt (Debian 13), or docker run"
            f" --privileged --rm tonistiigi/binfmt --install {platform.architecture}",
        )
    return PrivilegeError(f"{what}: the emulator cannot be used: {found.text}", hint=f"name another one with {name}")
