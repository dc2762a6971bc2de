"""The values of --secret and --ssh, read as docker's buildx reads them."""

from __future__ import annotations

import csv
import os
from typing import TYPE_CHECKING

import click

from pybuild.builder.options import AgentSource, SecretSource

if TYPE_CHECKING:
    from collections.abc import Iterable

_KEYS = {"id": "id", "src": "src", "source": "src", "env": "env", "type": "type"}
SECRET_HELP = (
    "A secret for RUN --mount=type=secret: id=NAME with src=FILE or env=VARIABLE; with neither, the variable or the file of "
    "that name. Can be repeated."
)
SSH_HELP = (
    "An SSH agent for RUN --mount=type=ssh, and, as default, for git over ssh: default (the one of SSH_AUTH_SOCK), or ID=SOCKET. Private keys are not read. "
    "Can be repeated."
)


def parse_secrets(texts: Iterable[str]) -> tuple[SecretSource, ...]:
    """Raises click.UsageError."""
    found: dict[str, SecretSource] = {}
    for text in texts:
        secret = _secret(text)
        if secret.id in found:
            raise _wrong("--secret", text, f"the id {secret.id} is given twice")
        found[secret.id] = secret
    return tuple(found.values())


def parse_agents(texts: Iterable[str]) -> tuple[AgentSource, ...]:
    """Raises click.UsageError."""
    found: dict[str, AgentSource] = {}
    for text in texts:
        id, _, path = text.partition("=")
        path = path or os.environ.get("SSH_AUTH_SOCK", "")
        if not id:
            raise _wrong("--ssh", text, "expected default, or ID=SOCKET")
        if not path:
            raise _wrong("--ssh", text, "no agent is running: SSH_AUTH_SOCK is not set")
        if id in found:
            raise _wrong("--ssh", text, f"the id {id} is given twice")
        found[id] = AgentSource(id, path)
    return tuple(found.values())


def _secret(text: str) -> SecretSource:
    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise _wrong("--secret", text, str(error)) from None
    options: dict[str, str] = {}
    for field in fields:
        key, equals, value = field.partition("=")
        name = _KEYS.get(key.strip().lower())
        if name is None or not equals:
            raise _wrong("--secret", text, f"unexpected {field!r}; it takes id=, src=, env= and type=")
        if name in options:
            raise _wrong("--secret", text, f"{key}= is given twice")
        options[name] = value
    id, kind = options.get("id", ""), options.get("type")
    if not id:
        raise _wrong("--secret", text, "id= is missing")
    if kind not in (None, "file", "env"):
        raise _wrong("--secret", text, f"type={kind}: it can be file or env")
    if "src" in options and "env" in options:
        raise _wrong("--secret", text, "src= and env= exclude each other")
    if kind == "file" and "env" in options:
        raise _wrong("--secret", text, "type=file has no env=")
    if "env" in options or kind == "env":
        return SecretSource(id, "", options.get("env") or options.get("src") or id)
    if "src" not in options and kind is None and id in os.environ:
        return SecretSource(id, "", id)
    return SecretSource(id, options.get("src") or id)


def _wrong(flag: str, text: str, message: str) -> click.UsageError:
    return click.UsageError(f"{flag} {text}: {message}")
