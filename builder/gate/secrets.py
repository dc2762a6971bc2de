"""The rule `secrets`: what looks like a secret in files, in the config and in the history.

A file that a later layer deletes is still in the image, so all layers are read. Binary files and those above a limit are not
read. A finding says where a secret is, and never shows it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pybuild.builder.events import RuleBroken
from pybuild.builder.gate.command_secrets import has_login, secrets_of_command
from pybuild.builder.gate.contents import files_of
from pybuild.builder.gate.secret_patterns import secrets_in, tokens_in
from pybuild.parser.checks.values import sounds_secret
from pybuild.store.layers.view import View
from pybuild.values.limits import SECRET_FILE_BYTES
from pybuild.values.pattern import pattern
from pybuild.values.redact import redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pybuild.builder.gate.rules import Allowances
    from pybuild.builder.gate.subject import Subject
    from pybuild.store.formats.toc import Toc

_RULE = "secrets"
_SMALLEST = 16  # bytes; a shorter file has room for no secret that a pattern knows
_TEXT = 8192  # bytes; a file with a NUL among the first ones is binary
_ARGUMENTS = pattern(r"RUN \|([0-9]{1,4}) (.*)", re.DOTALL)
_PAIR = pattern(r"([A-Za-z_][A-Za-z0-9_]*)=(\S*)")
_PUBLIC_KEY = pattern(r"[0-9A-Fa-f ]{16,50}")  # the fingerprint of a key, as GPG_KEY in images of Python
_HARMLESS = frozenset(("", "true", "false", "yes", "no", "none", "null", "0", "1"))


def secrets_in_config(subject: Subject, allowed: Allowances) -> Iterator[RuleBroken]:
    """Secrets in environment, labels and history: whoever has the image can read them."""
    seen = set()
    for pair in subject.config.env:
        name, _, value = pair.partition("=")
        for what in _named_secret(name, value):
            seen.add(f"env:{name}")
            if not allowed.named(_RULE, f"env:{name}"):
                yield RuleBroken(_RULE, f"the environment variable {name} of the config {what}")
    for name, value in subject.config.labels.items():
        if not allowed.named(_RULE, f"label:{name}") and (token := _token(value)):
            yield RuleBroken(_RULE, f"the label {name} of the config looks like {token}")
    for number, text in enumerate(subject.history, 1):
        yield from _secrets_of_line(number, text, seen, allowed)


def _secrets_of_line(number: int, text: str, seen: set[str], allowed: Allowances) -> Iterator[RuleBroken]:
    where = f"line {number} of the history"
    kind, pairs = _pairs(text)
    named = False
    for name, value in pairs:
        key = f"{kind}:{name}"
        for what in _named_secret(name, value):
            named = True
            if key not in seen and not allowed.named(_RULE, key):
                seen.add(key)
                variable = "build argument" if kind == "arg" else "environment variable"
                yield RuleBroken(_RULE, f"the {variable} {name} in {where} {what}", instruction=_cut(text))
    for name, value in secrets_of_command(text):
        if any(name == other for other, _ in pairs):  # what an ARG gives anyway
            continue
        named = True
        if not allowed.named(_RULE, f"run:{name}"):
            token = _token(value)
            what = f"looks like {token}" if token else "sounds like a secret, and has a value"
            yield RuleBroken(_RULE, f"{name} in the command of {where} {what}", instruction=_cut(text))
    if not named and has_login(text):
        named = True
        yield RuleBroken(_RULE, f"{where} calls curl with a user and a password", instruction=_cut(text))
    if not named and (token := _token(text)):
        yield RuleBroken(_RULE, f"{where} looks like {token}", instruction=_cut(text))
    elif not named and redact(text) != text:
        yield RuleBroken(_RULE, f"{where} has a user or password in a URL", instruction=_cut(redact(text)))


def _pairs(text: str) -> tuple[str, list[tuple[str, str]]]:
    """Whether a line sets arguments (arg) or variables (env), and their names and values."""
    keyword, _, rest = text.partition(" ")
    if keyword in ("ENV", "ARG"):
        name, equals, _ = rest.partition("=")
        pairs = _PAIR.findall(rest) if equals and " " not in name else [tuple(rest.partition(" ")[::2])]
        return keyword.lower(), [(name, value.strip("\"'")) for name, value in pairs]
    found = _ARGUMENTS.match(text)
    return "arg", _PAIR.findall(found[2])[: int(found[1])] if found else []


def _named_secret(name: str, value: str) -> Iterator[str]:
    """What is suspicious about a variable, at most one thing."""
    if token := _token(value):
        yield f"looks like {token}"
    elif (
        sounds_secret(name)
        and value.lower() not in _HARMLESS
        and not value.startswith(("/", "$", "file:"))
        and not (name.startswith("GPG_") and _PUBLIC_KEY.fullmatch(value))
    ):
        yield "sounds like a secret, and has a value"


def _token(text: str) -> str:
    return next((what for what, _ in tokens_in(text.encode("utf-8", "surrogateescape"))), "")


def _cut(text: str) -> str:
    """The keyword of a line alone: the rest might be the secret."""
    return text.partition(" ")[0] + " …"


def secrets_in_layers(subject: Subject, tables: Sequence[Toc], allowed: Allowances) -> Iterator[RuleBroken]:
    """Secrets in the text files of all layers, also of those that a later layer hides. Raises StoreError."""
    largest = SECRET_FILE_BYTES.value
    view = View(tables[::-1])
    for number, toc in enumerate(tables):
        if not any(_SMALLEST <= size <= largest for _, size in toc.contents()):
            continue
        for path, data in files_of(subject.image, number, _SMALLEST, largest):
            if b"\0" in data[:_TEXT]:
                continue
            for what, line in secrets_in(path, data):
                if not allowed.path(_RULE, path):
                    located = view.locate(path)
                    hidden = "" if located is not None and located[0] is toc else "; a later layer hides the file"
                    yield subject.finding(_RULE, f"line {line} looks like {what}{hidden}", path, number)
