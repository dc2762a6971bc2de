"""The modes of --chmod: octal, or symbolic as chmod(1) has them, with a umask of 0.

The symbolic form is that of BSD's setmode(3), which BuildKit uses: `=` takes set-user-ID and set-group-ID of those it
names away, from directories too, and `t` counts only where all or nobody is named.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

from pybuild.parser.errors import ModeError
from pybuild.values import frozen

_OCTAL = re.compile(r"[0-7]{1,5}")
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)")
_ACTION = re.compile(r"([-+=])([rwxXst]*|[ugo])(?=[-+=]|$)")
_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o0007, "a": 0o6777}
_EVERYBODY = 0o6777
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000}
_SHIFT = {"u": 6, "g": 3, "o": 0}
_HINT = "octal up to 7777, or symbolic such as u=rwX,go=rX"


@frozen
class OctalMode:
    """The mode itself."""

    bits: int


@frozen
class ModeAction:
    """One `+x` for the classes in `who` (a mask; 0o6777 where nobody is named). `copy` is the u of `g=u`."""

    who: int
    operator: Literal["+", "-", "="]
    bits: int
    execute_if: bool  # X
    copy: str | None


@frozen
class SymbolicMode:
    """Changes to the mode that a file has."""

    actions: tuple[ModeAction, ...]


FileMode: TypeAlias = OctalMode | SymbolicMode


def parse_mode(text: str) -> FileMode:
    """Read the value of --chmod. Raises ModeError."""
    if text[:1].isdigit():
        if not _OCTAL.fullmatch(text) or int(text, 8) > 0o7777:
            raise ModeError(f"expected an octal mode up to 7777, not {text!r}", hint=_HINT)
        return OctalMode(int(text, 8))
    actions: list[ModeAction] = []
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise ModeError(f"invalid mode {text!r}", hint=_HINT)
        named, rest = match[1], match[2]
        who = 0
        for character in named:
            who |= _WHO[character]
        sticky = not named or "a" in named or set(named) >= set("ugo")
        actions += [_action(who or _EVERYBODY, sticky, found[1], found[2]) for found in _ACTION.finditer(rest)]
    return SymbolicMode(tuple(actions))


def _action(who: int, sticky: bool, operator: str, permissions: str) -> ModeAction:
    if permissions in _SHIFT:
        return ModeAction(who, _operator(operator), 0, False, permissions)
    bits = 0
    for character in permissions:
        bits |= _BITS.get(character, 0)
    bits &= who
    if "t" in permissions and sticky:
        bits |= 0o1000
    return ModeAction(who, _operator(operator), bits, "X" in permissions, None)


def _operator(text: str) -> Literal["+", "-", "="]:
    return "+" if text == "+" else "-" if text == "-" else "="


def apply_mode(mode: FileMode, current: int, *, directory: bool) -> int:
    """The permission bits (12 of them) that a file gets which has `current`."""
    match mode:
        case OctalMode(bits=bits):
            return bits
        case SymbolicMode(actions=actions):
            # X asks for the file as it was before.
            executable = directory or bool(current & 0o111)
            result = current & 0o7777
            for action in actions:
                result = _applied(action, result, executable)
            return result


def _applied(action: ModeAction, mode: int, executable: bool) -> int:
    bits = action.bits
    if action.execute_if and executable:
        bits |= 0o111 & action.who
    if action.copy is not None:
        bits |= ((mode >> _SHIFT[action.copy]) & 0o7) * 0o111 & action.who
    match action.operator:
        case "+":
            return mode | bits
        case "-":
            return mode & ~bits
        case "=":
            return (mode & ~action.who) | bits
