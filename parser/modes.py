"""The modes of --chmod: octal, or symbolic as in chmod(1) with a umask of 0.

The symbolic form is that of BSD's setmode(3), which BuildKit uses: `=` clears the set-user-ID and set-group-ID bits of the
classes that it names, for directories too, and `t` has an effect only if all classes or no class is named.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from pybuild.parser.errors import ModeError
from pybuild.values import frozen
from pybuild.values.pattern import pattern

_OCTAL = pattern(r"[0-7]{1,5}")
_CLAUSE = pattern(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)")
_ACTION = pattern(r"([-+=])([rwxXst]*|[ugo])(?=[-+=]|$)")
_CLASSES = {"u": 0o4700, "g": 0o2070, "o": 0o0007, "a": 0o6777}
_ALL_CLASSES = 0o6777
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000}
_SHIFT = {"u": 6, "g": 3, "o": 0}
_HINT = "octal up to 7777, or symbolic such as u=rwX,go=rX"


@frozen
class OctalMode:
    """An absolute mode."""

    bits: int


@frozen
class ModeAction:
    """One action such as `+x`. `classes` is a mask of u, g and o (0o6777 if none is named), `copy` the u of `g=u`."""

    classes: int
    operator: Literal["+", "-", "="]
    bits: int
    execute_if: bool  # X
    copy: str | None


@frozen
class SymbolicMode:
    """Actions that change the mode of a file, in order."""

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
        classes = 0
        for character in named:
            classes |= _CLASSES[character]
        sticky = not named or "a" in named or set(named) >= set("ugo")
        actions += [_action(classes or _ALL_CLASSES, sticky, found[1], found[2]) for found in _ACTION.finditer(rest)]
    return SymbolicMode(tuple(actions))


def _action(classes: int, sticky: bool, operator: str, permissions: str) -> ModeAction:
    if permissions in _SHIFT:
        return ModeAction(classes, _operator(operator), 0, False, permissions)
    bits = 0
    for character in permissions:
        bits |= _BITS.get(character, 0)
    bits &= classes
    if "t" in permissions and sticky:
        bits |= 0o1000
    return ModeAction(classes, _operator(operator), bits, "X" in permissions, None)


def _operator(text: str) -> Literal["+", "-", "="]:
    return "+" if text == "+" else "-" if text == "-" else "="


def apply_mode(mode: FileMode, current: int, *, directory: bool) -> int:
    """The new permission bits (12) of a file that has the mode `current`."""
    match mode:
        case OctalMode(bits=bits):
            return bits
        case SymbolicMode(actions=actions):
            # X depends on the mode before all actions.
            executable = directory or bool(current & 0o111)
            result = current & 0o7777
            for action in actions:
                result = _applied(action, result, executable)
            return result


def _applied(action: ModeAction, mode: int, executable: bool) -> int:
    bits = action.bits
    if action.execute_if and executable:
        bits |= 0o111 & action.classes
    if action.copy is not None:
        bits |= ((mode >> _SHIFT[action.copy]) & 0o7) * 0o111 & action.classes
    match action.operator:
        case "+":
            return mode | bits
        case "-":
            return mode & ~bits
        case "=":
            return (mode & ~action.classes) | bits
