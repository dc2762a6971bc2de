"""Platforms: an operating system and a processor, as containerd's platforms package reads and compares them."""

from __future__ import annotations

import os
import re

from pybuild.store.errors import InvalidImage
from pybuild.values import frozen

# Go's words for what uname and people call processors; as containerd's platforms package reads them.
_MACHINES = {
    "x86_64": ("amd64", ""), "x86-64": ("amd64", ""), "aarch64": ("arm64", ""), "armv7l": ("arm", "v7"),
    "armhf": ("arm", "v7"), "armel": ("arm", "v6"), "arm": ("arm", "v7"), "i686": ("386", ""), "i386": ("386", ""),
}  # fmt: skip
_ALONE = frozenset(("386", "amd64", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x"))
_PART = re.compile(r"[a-z0-9_.-]+")
_USUAL = {"arm64": "v8", "arm": "v7", "amd64": "v1"}  # the variant that is meant where none is named


@frozen
class Platform:
    """An operating system and processor, in Go's words."""

    os: str
    architecture: str
    variant: str = ""

    @staticmethod
    def parse(text: str) -> Platform:
        """Read `os/architecture[/variant]`; without a system it is linux, and other names of a processor are known too.

        Raises InvalidImage.
        """
        parts = text.lower().split("/")
        if parts[0] in _ALONE or parts[0] in _MACHINES:
            parts = ["linux", *parts]
        if len(parts) not in (2, 3) or not all(map(_PART.fullmatch, parts)):
            raise InvalidImage(f"invalid platform {text[:100]!r}", hint="for instance linux/amd64 or linux/arm/v7")
        system, architecture, *variant = parts
        architecture, known = _MACHINES.get(architecture, (architecture, ""))
        return Platform(system, architecture, variant[0] if variant else known)

    @staticmethod
    def host() -> Platform:
        """This machine."""
        machine = os.uname().machine
        architecture, variant = _MACHINES.get(machine, (machine, ""))
        return Platform("linux", architecture, variant)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def matches(self, other: Platform) -> bool:
        """Whether an image for `other` is one for this platform. arm64 and arm64/v8 are one, arm and arm/v7 too."""
        mine, theirs = (p.variant or _USUAL.get(p.architecture, "") for p in (self, other))
        return (self.os, self.architecture, mine) == (other.os, other.architecture, theirs)
