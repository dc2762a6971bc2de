"""Platforms: operating system and architecture, read and compared as containerd's platforms package does it."""

from __future__ import annotations

import os
import re

from pybuild.store.errors import InvalidImage
from pybuild.values import frozen

# uname's and common names -> Go's architecture and variant, as in containerd's platforms package.
_ALIASES = {
    "x86_64": ("amd64", ""), "x86-64": ("amd64", ""), "aarch64": ("arm64", ""), "armv7l": ("arm", "v7"),
    "armhf": ("arm", "v7"), "armel": ("arm", "v6"), "arm": ("arm", "v7"), "i686": ("386", ""), "i386": ("386", ""),
}  # fmt: skip
_ARCHITECTURES = frozenset(("386", "amd64", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x"))
_PART = re.compile(r"[a-z0-9_.-]+")
_DEFAULT_VARIANTS = {"arm64": "v8", "arm": "v7", "amd64": "v1"}


@frozen
class Platform:
    """An operating system, an architecture and its variant, by Go's names."""

    os: str
    architecture: str
    variant: str = ""

    @staticmethod
    def parse(text: str) -> Platform:
        """Read `[os/]architecture[/variant]`; the default system is linux, and aliases of architectures are accepted.

        Raises InvalidImage.
        """
        parts = text.lower().split("/")
        if parts[0] in _ARCHITECTURES or parts[0] in _ALIASES:
            parts = ["linux", *parts]
        if len(parts) not in (2, 3) or not all(map(_PART.fullmatch, parts)):
            raise InvalidImage(f"invalid platform {text[:100]!r}", hint="for instance linux/amd64 or linux/arm/v7")
        system, architecture, *variant = parts
        architecture, implied = _ALIASES.get(architecture, (architecture, ""))
        return Platform(system, architecture, variant[0] if variant else implied)

    @staticmethod
    def host() -> Platform:
        """The platform of this machine."""
        machine = os.uname().machine
        architecture, variant = _ALIASES.get(machine, (machine, ""))
        return Platform("linux", architecture, variant)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def matches(self, other: Platform) -> bool:
        """Whether an image for `other` runs here. arm64 equals arm64/v8, arm equals arm/v7, amd64 equals amd64/v1."""
        mine, theirs = (p.variant or _DEFAULT_VARIANTS.get(p.architecture, "") for p in (self, other))
        return (self.os, self.architecture, mine) == (other.os, other.architecture, theirs)
