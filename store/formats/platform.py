"""Platforms: operating system and architecture, read and compared as containerd's platforms package does it."""

from __future__ import annotations

import os

from pybuild.store.errors import InvalidImage
from pybuild.values import frozen
from pybuild.values.pattern import pattern

# The normal form of an architecture and its variant; "*" is any variant. containerd's platforms package: database.go.
_NORMAL = {
    ("x86_64", "*"): ("amd64", "*"), ("x86-64", "*"): ("amd64", "*"), ("amd64", "v1"): ("amd64", ""),
    ("aarch64", "*"): ("arm64", "*"), ("arm64", "8"): ("arm64", ""), ("arm64", "v8"): ("arm64", ""),
    ("arm64", "v8.0"): ("arm64", ""), ("arm64", "9"): ("arm64", "v9"), ("arm64", "9.0"): ("arm64", "v9"),
    ("arm64", "v9.0"): ("arm64", "v9"), ("i386", "*"): ("386", ""), ("armhf", "*"): ("arm", "v7"),
    ("armel", "*"): ("arm", "v6"), ("arm", ""): ("arm", "v7"), ("arm", "5"): ("arm", "v5"), ("arm", "6"): ("arm", "v6"),
    ("arm", "7"): ("arm", "v7"), ("arm", "8"): ("arm", "v8"),
    ("armv6l", "*"): ("arm", "v6"), ("armv7l", "*"): ("arm", "v7"), ("i686", "*"): ("386", ""),  # as uname(1) has them
}  # fmt: skip
_SYSTEMS = frozenset((
    "aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux", "nacl", "netbsd", "openbsd",
    "plan9", "solaris", "windows", "zos",
))  # fmt: skip
_ARCHITECTURES = frozenset((
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64", "s390x",
    "wasm",
))  # fmt: skip
_PART = pattern(r"[a-z0-9_.-]+")


@frozen
class Platform:
    """An operating system, an architecture and its variant, by Go's names."""

    os: str
    architecture: str
    variant: str = ""

    @staticmethod
    def parse(text: str) -> Platform:
        """Read `[os/]architecture[/variant]`, or an os alone, and return its normal form. Raises InvalidImage.

        The default system is linux, the default architecture that of this machine.
        """
        parts = text.lower().split("/")
        if len(parts) == 1 and _system(parts[0]) in _SYSTEMS:
            host = Platform.host()
            return Platform(_system(parts[0]), host.architecture, host.variant)
        if len(parts) < 3 and Platform("", *parts).normal().architecture in _ARCHITECTURES:
            parts = ["linux", *parts]
        if len(parts) not in (2, 3) or not all(map(_PART.fullmatch, parts)):
            raise InvalidImage(f"invalid platform {text[:100]!r}", hint="for instance linux/amd64 or linux/arm/v7")
        return Platform(_system(parts[0]), *parts[1:]).normal()

    @staticmethod
    def host() -> Platform:
        """The platform of this machine."""
        return Platform("linux", os.uname().machine).normal()

    def normal(self) -> Platform:
        """The one form of several for the same platform: arm64/v8 is arm64, arm is arm/v7, amd64/v1 is amd64."""
        architecture, variant = self.architecture, self.variant
        renamed = _NORMAL.get((architecture, "*"))
        if renamed is not None:
            architecture, variant = renamed[0], variant if renamed[1] == "*" else renamed[1]
        return Platform(self.os, *_NORMAL.get((architecture, variant), (architecture, variant)))

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def matches(self, other: Platform) -> bool:
        """Whether both are the same platform in their normal forms."""
        return self.normal() == other.normal()


def _system(name: str) -> str:
    return "darwin" if name == "macos" else name
