"""The platforms of a build: their ARGs, the platform of each stage, and whether this machine can run its programs."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.builder.errors import PlanError, PrivilegeError
from pybuild.builder.host.obstacles import SEE_DOCTOR
from pybuild.store.errors import InvalidImage
from pybuild.store.formats.platform import Platform

if TYPE_CHECKING:
    from pybuild.builder.options import BuildOptions
    from pybuild.parser import Span
    from pybuild.store.objects.images import StoredImage

BINFMT = "/proc/sys/fs/binfmt_misc"
_COMPATIBLE = {
    ("amd64", "386"),
    ("arm64", "arm"),
}  # (this machine, programs that it runs too); some arm64 do not
# Go's name of a processor -> its e_machine in elf.h, and the name of its QEMU emulator.
_MACHINES = {
    "386": (3, "i386"), "amd64": (62, "x86_64"), "arm": (40, "arm"), "arm64": (183, "aarch64"), "loong64": (258, "loongarch64"),
    "mips64le": (8, "mips64el"), "ppc64le": (21, "ppc64le"), "riscv64": (243, "riscv64"), "s390x": (22, "s390x"),
}  # fmt: skip
_BIG_ENDIAN = frozenset(("s390x",))


def platform_args(options: BuildOptions) -> dict[str, str]:
    """The predefined ARGs: BUILD… describes this machine, TARGET… the platform of the image."""
    values: dict[str, str] = {}
    for prefix, platform in (("BUILD", options.build_platform), ("TARGET", options.platform)):
        values |= {
            f"{prefix}PLATFORM": str(platform),
            f"{prefix}OS": platform.os,
            f"{prefix}OSVERSION": platform.os_version,
            f"{prefix}ARCH": platform.architecture,
            f"{prefix}VARIANT": platform.variant,
        }
    values["TARGETSTAGE"] = options.target or "default"
    return values


def parse_platform(text: str, span: Span) -> Platform:
    """The value of --platform of a FROM. Raises PlanError."""
    try:
        return Platform.parse(text)
    except InvalidImage as error:
        raise PlanError(f"--platform={text}: {error}", span=span, hint=error.hint) from None


def platform_of(image: StoredImage | None, wanted: Platform) -> Platform:
    """The platform of a stage on this image: that of the image, even if the user asked for another one."""
    if image is None or not image.config.architecture:
        return wanted
    config = image.config
    return replace(config.platform, os=config.os or wanted.os, architecture=config.architecture, variant=config.variant)


def check_runnable(platform: Platform, binfmt: str = BINFMT) -> None:
    """Raise PrivilegeError if the kernel cannot execute programs of this platform, not even with an emulator.

    Files can be copied from and to images for any system; a RUN needs one for linux.

    `binfmt` is the directory where the kernel lists its interpreters: Documentation/admin-guide/binfmt-misc.rst.
    """
    host = Platform.host().architecture
    wanted = platform.architecture
    if platform.os != "linux":
        raise PrivilegeError(
            f"RUN for {platform}: pybuild runs programs for linux only",
            hint="run it in a stage for linux, FROM --platform=$BUILDPLATFORM, and copy what it makes",
        )
    if wanted == host or (host, wanted) in _COMPATIBLE:
        return
    found = emulator(wanted, binfmt)
    if found == "F":
        return
    name = _MACHINES[wanted][1] if wanted in _MACHINES else wanted
    if found is not None:
        raise PrivilegeError(
            f"RUN for {platform} on linux/{host}: the emulator is registered without the flag F, so steps cannot use it",
            hint=f"register it again: docker run --privileged --rm tonistiigi/binfmt --install {wanted}",
        )
    raise PrivilegeError(
        f"RUN for {platform} on linux/{host}: there is no emulator for {wanted}",
        hint=f"apt-get install qemu-user-static binfmt-support, which registers qemu-{name}; {SEE_DOCTOR}",
    )


def emulator(architecture: str, binfmt: str = BINFMT) -> str | None:
    """ "F" if the kernel holds the emulator of a processor open, "" if it opens it by path; None without an emulator."""
    machine = _MACHINES.get(architecture)
    if machine is None:
        return None
    code = machine[0].to_bytes(2, "big" if architecture in _BIG_ENDIAN else "little").hex()
    try:
        names = [name for name in os.listdir(binfmt) if name not in ("register", "status")]
    except OSError:
        return None
    flags = set()
    for name in names:
        with open(f"{binfmt}/{name}", encoding="utf-8", errors="replace") as file:
            lines = file.read(4096).splitlines()
        fields = dict(line.partition(" ")[::2] for line in lines)
        magic = fields.get("magic", "")
        if (
            "enabled" in fields
            and fields.get("offset", "0") == "0"
            and magic[:8] == "7f454c46"
            and magic[36:40] == code
        ):
            flags.add("F" if "F" in fields.get("flags:", "") else "")
    return max(flags, default=None)
