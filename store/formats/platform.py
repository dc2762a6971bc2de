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
_SYSTEM = pattern(r"([a-z0-9_-]+)(?:\(([a-z0-9_.-]*)((?:\+[a-z0-9_.-]+)*)\))?")  # windows(10.0.17763+win32k)


@frozen
class Platform:
    """An operating system, an architecture and its variant, by Go's names.

    Windows has a version, such as 10.0.17763.5458, and features: images for several of them are different platforms.
    """

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    @staticmethod
    def parse(text: str) -> Platform:
        """Read `[os/]architecture[/variant]`, or an os alone, and return its normal form. Raises InvalidImage.

        The default system is linux, the default architecture that of this machine. `windows(10.0.17763)/amd64` names a
        version of the system as well.
        """
        parts = text.lower().split("/")
        if len(parts) < 3 and Platform("", parts[0], "".join(parts[1:2])).normal().architecture in _ARCHITECTURES:
            parts = ["linux", *parts]
        system = _SYSTEM.fullmatch(parts[0])
        if system is None or not all(map(_PART.fullmatch, parts[1:])) or len(parts) > 3:
            raise InvalidImage(f"invalid platform {text[:100]!r}", hint="for instance linux/amd64 or linux/arm/v7")
        name, version = _system(system[1]), system[2] or ""
        features = tuple(sorted(filter(None, (system[3] or "").split("+"))))
        if len(parts) == 1 and name in _SYSTEMS:
            host = Platform.host()
            return Platform(name, host.architecture, host.variant, version, features)
        if len(parts) == 1:
            raise InvalidImage(f"invalid platform {text[:100]!r}", hint="for instance linux/amd64 or linux/arm/v7")
        variant = parts[2] if len(parts) == 3 else ""
        return Platform(name, parts[1], variant, version, features).normal()

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
        architecture, variant = _NORMAL.get((architecture, variant), (architecture, variant))
        return Platform(self.os, architecture, variant, self.os_version, self.os_features)

    def __str__(self) -> str:
        """The form that `parse` reads, as `FormatAll` of containerd's platforms package writes it."""
        more = "".join((self.os_version, *(f"+{feature}" for feature in self.os_features)))
        system = f"{self.os}({more})" if more else self.os
        return "/".join(part for part in (system, self.architecture, self.variant) if part)

    @property
    def directory(self) -> str:
        """The name of the directory that has the files of this platform among those of others, as in BuildKit."""
        return str(self).replace("/", "_")

    @property
    def without_version(self) -> Platform:
        """The platform whatever the version and the features of its system are."""
        return Platform(self.os, self.architecture, self.variant)

    def matches(self, other: Platform) -> bool:
        """Whether both are the same platform in their normal forms.

        Versions of a system match if one is the beginning of the other: `10.0.17763` is `10.0.17763.5458`. A platform
        without a version or without features matches all of them.
        """
        if self.without_version.normal() != other.without_version.normal():
            return False
        if self.os_features and other.os_features and set(self.os_features) != set(other.os_features):
            return False
        return all(mine == its for mine, its in zip(_numbers(self), _numbers(other), strict=False))


def _numbers(platform: Platform) -> list[str]:
    return platform.os_version.split(".") if platform.os_version else []


def _system(name: str) -> str:
    return "darwin" if name == "macos" else name
