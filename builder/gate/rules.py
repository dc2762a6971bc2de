"""The rules that an image can be held to: `pybuild build --max-size`, `--deny` and so on, and `pybuild check-image`."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from dataclasses import field, replace
from typing import TYPE_CHECKING

from pybuild.parser.ignorefile import IgnoreFile
from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.builder.events import RuleBroken

SIZES = {
    "max-size": "The layers of the image, as a registry keeps them, are larger than allowed",
    "max-layer-size": "A layer of the image, as a registry keeps it, is larger than allowed",
    "max-waste": "Files that later layers hide, and files that are there twice, are more than allowed",
    "max-layers": "The image has more layers than allowed",
}
DENIABLE = {
    "setuid": "A program runs with the rights of its owner, whoever starts it",
    "setgid": "A program runs with the rights of its group, whoever starts it",
    "capabilities": "A program gets capabilities, whoever starts it",
    "world-writable": "Everybody can write to a file, or to a directory without the sticky bit",
    "devices": "A layer contains a device node",
    "root-user": "The image runs as root unless its user says otherwise",
    "second-root": "An account besides root has the user ID 0",
    "empty-password": "An account has no password",
    "unknown-owner": "A file belongs to a user or group that the image does not name",
    "package-caches": "A layer contains what a package manager keeps to save downloads",
    "secrets": "A layer, the config or the history contains what looks like a secret",
}
USERS = {"allowed-users": "The image runs as a user that is not one of those allowed"}
RULES = {**SIZES, **DENIABLE, **USERS}
NAMED = ("env", "arg", "label", "run")  # places of secrets that are not files: env:NAME, …, run:NAME of a command


@frozen
class Waste:
    """How much waste is allowed: bytes, or a percentage of the bytes of all files."""

    number: float
    is_percentage: bool = False

    def bytes_of(self, total: int) -> int:
        """The bytes that are allowed, of an image whose files have `total` bytes in all layers."""
        return int(total * self.number / 100) if self.is_percentage else int(self.number)


@frozen
class ImageRules:
    """What is asked of an image. Sizes are in bytes; None and "nothing" ask for nothing."""

    max_size: int | None = None
    max_layer_size: int | None = None
    max_waste: Waste | None = None
    max_layers: int | None = None
    deny: tuple[str, ...] = ()  # names of DENIABLE
    allowed_users: tuple[str, ...] = ()
    allow: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # rule -> patterns of paths that may break it

    @property
    def asked(self) -> tuple[str, ...]:
        """The names of the rules that the image is held to, in the order of RULES."""
        given = {
            "max-size": self.max_size,
            "max-layer-size": self.max_layer_size,
            "max-waste": self.max_waste,
            "max-layers": self.max_layers,
        }
        wanted = {name for name, value in given.items() if value is not None} | set(self.deny)
        wanted |= {"allowed-users"} if self.allowed_users else set()
        return tuple(name for name in RULES if name in wanted)

    def with_options(self, more: ImageRules) -> ImageRules:
        """These rules, changed by those of the command line: numbers replace, denied things add up."""
        return replace(
            self,
            max_size=self.max_size if more.max_size is None else more.max_size,
            max_layer_size=self.max_layer_size if more.max_layer_size is None else more.max_layer_size,
            max_waste=self.max_waste if more.max_waste is None else more.max_waste,
            max_layers=self.max_layers if more.max_layers is None else more.max_layers,
            deny=tuple(dict.fromkeys((*self.deny, *more.deny))),
        )

    def allowances(self) -> Allowances:
        """What may break rules."""
        return Allowances(self.allow)


class Allowances:
    """The paths, and names of variables and labels, that may break a rule."""

    def __init__(self, allow: Mapping[str, tuple[str, ...]]) -> None:
        self._paths: dict[str, IgnoreFile] = {}
        self._names: dict[str, frozenset[str]] = {}
        for rule, patterns in allow.items():
            self._names[rule] = frozenset(text for text in patterns if is_name(text))
            self._paths[rule] = IgnoreFile.of(as_ignore_pattern(text) for text in patterns if not is_name(text))

    def path(self, rule: str, path: bytes) -> bool:
        """Whether this path, relative to the root, may break the rule."""
        patterns = self._paths.get(rule)
        return patterns is not None and bool(patterns.rules) and patterns.excludes(os.fsdecode(path))

    def named(self, rule: str, name: str) -> bool:
        """Whether `env:NAME`, `arg:NAME`, `label:NAME` or `run:NAME` may break the rule."""
        return name in self._names.get(rule, ())


def is_name(text: str) -> bool:
    """Whether a line of an allow list names a variable or a label, and not a path."""
    return text.partition(":")[0] in NAMED and ":" in text


def as_ignore_pattern(text: str) -> str:
    """The pattern of an allow list as one of an ignore file, which has no leading slash."""
    return posixpath.normpath(text).lstrip("/")


def in_order(found: list[RuleBroken]) -> list[RuleBroken]:
    """The findings in the order of RULES; those of one rule stay in their order."""
    names = list(RULES)
    return sorted(found, key=lambda one: names.index(one.rule))
