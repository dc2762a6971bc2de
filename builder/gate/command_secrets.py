"""Secrets in the commands of RUN, CMD and so on, as the history has them: what is set for a command, options, `curl -u`.

A command is full of `key=value` that is no secret, so fewer names are suspicious here than those of variables: the name has to
end in a word for a secret. `auth` and `key` alone are not among them: `--auth=pam`, `key=FINGERPRINT`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pybuild.builder.gate.secret_patterns import tokens_in
from pybuild.parser.checks.values import sounds_secret
from pybuild.values.pattern import pattern
from pybuild.values.redact import redact

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMMANDS = frozenset(("RUN", "CMD", "ENTRYPOINT", "HEALTHCHECK"))
# Repetitions have limits, or an anchor: the text can be hostile.
_ARGUMENTS = pattern(
    r"\ARUN \|[0-9]{1,4} .*?(?<=\s)(?=\S{0,200}/(?:ba|da|a|z|k)?sh -[a-z]*c )", re.DOTALL
)  # the values of ARGs
# What is set for a command, and options with a value: NAME=value, --name='value'
_ASSIGNED = pattern(
    r"""(?<![A-Za-z0-9_])(?P<name>[A-Za-z_][A-Za-z0-9_-]{0,100})=(?P<value>"[^"]*"|'[^']*'|[^\s;&|]+)"""
)
_SECRET = pattern(
    r"(?:password|passwd|pword|passphrase|secret|token|credentials?|api_?key|(?:access|secret|private)_key)_?[0-9]{0,3}",
    re.IGNORECASE,
)
_LONGEST_WORD = 24  # characters of what _SECRET matches, and some more
_BEFORE = (
    " \t\n\r;&|(\"'-"  # in front of a name; after another character it is a part of something, as in s/password=.*//
)
_HARMLESS = frozenset(("", "true", "false", "yes", "no", "on", "off", "none", "null", "0", "1"))
_NOT_LITERAL = ("/", "./", "$", "`", "file:", "env:", "@", "<", "{", "%", "*", ".*", "\\", "[")
# -u NAME:PASSWORD, as curl has it; two numbers are the user and group of another program
_LOGIN = pattern(
    r"""(?P<option>(?<=\s)(?:-u\s{0,8}|--(?:proxy-)?user[\s=]\s{0,8}))(?P<quote>["'])?(?P<user>[^\s:"'$/]{1,200}):"""
    r"""(?P<password>[^\s"'$`{<](?(quote)[^"']*|[^\s"']*))"""
)
_END = pattern(r"[;&|\n]")  # of a command
_CURL_NEAR = 420  # characters before the option


def secrets_of_command(text: str) -> Iterator[tuple[str, str]]:
    """The names that a line of history gives a value which sounds like a secret, and that value; each name once.

    The values of build arguments in front of the command of a RUN are not among them.
    """
    if text.partition(" ")[0] not in _COMMANDS:
        return
    seen = set()
    text = _ARGUMENTS.sub("RUN ", text)
    for found in _ASSIGNED.finditer(text):
        name, value = found["name"], found["value"].strip("\"'])\\")
        if name in seen or not _ends_secret(name) or text[found.start() - 1] not in _BEFORE:
            continue
        if value.lower() not in _HARMLESS and not value.startswith(_NOT_LITERAL):
            seen.add(name)
            yield name, value


def has_login(text: str) -> bool:
    """Whether a line of history calls curl with a user and a password."""
    return text.partition(" ")[0] in _COMMANDS and any(
        "curl" in _END.split(text[max(0, found.start() - _CURL_NEAR) : found.start()])[-1].split()
        for found in _LOGIN.finditer(text)
    )


def without_secrets(text: str) -> str:
    """An instruction without the values of build arguments, and without what looks or sounds like a secret."""
    text = _ASSIGNED.sub(_without_secret, redact(_ARGUMENTS.sub("RUN ", text)))
    text = _LOGIN.sub(_without_password, text)
    if text.startswith("RUN |") or any(tokens_in(text.encode("utf-8", "surrogateescape"))):
        return text.partition(" ")[0] + " …"
    return text


def _ends_secret(name: str) -> bool:
    """Whether the last word of a name is one for a secret, also where it is not set apart, as in PGPASSWORD."""
    return any(
        found.end() == len(name[-_LONGEST_WORD:]) for found in _SECRET.finditer(name[-_LONGEST_WORD:].replace("-", "_"))
    )


def _without_secret(assigned: re.Match[str]) -> str:
    name, value = assigned["name"], assigned["value"]
    if not (sounds_secret(name.replace("-", "_")) or _ends_secret(name)) or value.startswith("$"):
        return assigned[0]
    return f"{name}=…"


def _without_password(login: re.Match[str]) -> str:
    if login["user"].isdecimal() and login["password"].isdecimal():
        return login[0]
    return f"{login['option']}{login['quote'] or ''}{login['user']}:…"
