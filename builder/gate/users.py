"""The rules about the user of an image, its accounts, and who owns its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builder.events import RuleBroken
from pybuild.builder.gate.contents import read_file
from pybuild.builder.gate.files import broken_by_owners
from pybuild.store.layers.view import LinkLoop, View

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pybuild.builder.gate.rules import Allowances, ImageRules
    from pybuild.builder.gate.subject import Subject
    from pybuild.store.formats.toc import Toc

NEED_FILES = frozenset(("root-user", "second-root", "empty-password", "unknown-owner"))
_MAX_ID = 1 << 32


def broken_by_user(subject: Subject, rules: ImageRules) -> Iterator[RuleBroken]:
    """What the user of the config breaks."""
    user = subject.config.user
    if rules.allowed_users and user not in rules.allowed_users and user.partition(":")[0] not in rules.allowed_users:
        text = f"the image runs as {user or 'root'}; allowed are {', '.join(rules.allowed_users)}"
        yield RuleBroken("allowed-users", text)
    if "root-user" in rules.deny and user.partition(":")[0] in ("", "root", "0"):
        yield RuleBroken("root-user", f"the image runs as {user or 'root, because it names no user'}")


def broken_by_accounts(
    subject: Subject, rules: Sequence[str], tables: Sequence[Toc], allowed: Allowances
) -> Iterator[RuleBroken]:
    """What /etc/passwd, /etc/shadow and /etc/group break, and files whose owners they do not have."""
    view = View(tables[::-1])
    accounts = _lines(read_file(subject.image, view, b"etc/passwd"))
    users = {name: uid for name, fields in accounts if (uid := _number(fields, 2)) is not None}
    name = subject.config.user.partition(":")[0]
    if "root-user" in rules and name not in ("", "root", "0") and users.get(name, _number([name], 0)) == 0:
        yield RuleBroken("root-user", f"the image runs as {name}, which has the user ID 0")
    if "second-root" in rules and not allowed.path("second-root", b"etc/passwd"):
        for each, uid in users.items():
            if uid == 0 and each != "root":
                yield _in_file(subject, view, tables, "second-root", f"{each} has the user ID 0", b"etc/passwd")
    if "empty-password" in rules:
        yield from _empty_passwords(subject, view, tables, accounts, allowed)
    if "unknown-owner" in rules:
        named = _lines(read_file(subject.image, view, b"etc/group"))
        groups = {gid for _, fields in named if (gid := _number(fields, 2)) is not None}
        # root needs no line.
        known = frozenset({0, *users.values()}), frozenset({0, *groups})
        yield from broken_by_owners(subject, tables, *known, allowed)


def _empty_passwords(
    subject: Subject,
    view: View,
    tables: Sequence[Toc],
    accounts: Sequence[tuple[str, list[str]]],
    allowed: Allowances,
) -> Iterator[RuleBroken]:
    shadow = _lines(read_file(subject.image, view, b"etc/shadow"))
    for path, lines in ((b"etc/passwd", accounts), (b"etc/shadow", shadow)):
        if allowed.path("empty-password", path):
            continue
        for name, fields in lines:
            if len(fields) > 1 and fields[1] == "":
                yield _in_file(subject, view, tables, "empty-password", f"{name} needs no password", path)


def _in_file(subject: Subject, view: View, tables: Sequence[Toc], rule: str, text: str, path: bytes) -> RuleBroken:
    try:
        located = view.locate(view.resolve(path))
    except LinkLoop:
        located = None
    if located is None:
        return RuleBroken(rule, text, "/" + path.decode())
    return subject.finding(rule, text, path, next(n for n, toc in enumerate(tables) if toc is located[0]))


def _lines(data: bytes) -> list[tuple[str, list[str]]]:
    """The names and fields of the lines of passwd, shadow or group."""
    lines = (line.split(":") for line in data.decode("utf-8", "surrogateescape").splitlines())
    return [(fields[0], fields) for fields in lines if fields[0] and not fields[0].startswith(("#", "+", "-"))]


def _number(fields: list[str], index: int) -> int | None:
    text = fields[index] if len(fields) > index else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < _MAX_ID else None
