"""The values of --secret and --ssh, read as docker's buildx reads them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from pybuild.builder.options import AgentSource, SecretSource
from pybuild.options.arguments import csv_fields

if TYPE_CHECKING:
    from collections.abc import Iterable

_KEYS = {"id": "id", "src": "src", "source": "src", "env": "env", "type": "type"}
SECRET_HELP = (
    "Give a secret to RUN --mount=type=secret: id=NAME with src=FILE or env=VARIABLE; with neither, the variable NAME or"
    " else the file NAME. Can be repeated."
)
SSH_HELP = (
    "Give an SSH agent to RUN --mount=type=ssh: default (the agent of SSH_AUTH_SOCK), or ID=SOCKET. git over ssh uses the"
    " default one. pybuild reads no private keys. Can be repeated."
)


def parse_secrets(texts: Iterable[str]) -> tuple[SecretSource, ...]:
    """The secrets of all --secret options. Raises click.UsageError."""
    secrets: dict[str, SecretSource] = {}
    for text in texts:
        secret = _secret(text)
        if secret.id in secrets:
            raise _usage_error("--secret", text, f"the id {secret.id} is given twice")
        secrets[secret.id] = secret
    return tuple(secrets.values())


def parse_agents(texts: Iterable[str]) -> tuple[AgentSource, ...]:
    """The agents of all --ssh options. Raises click.UsageError."""
    agents: dict[str, AgentSource] = {}
    for text in texts:
        id, _, path = text.partition("=")
        path = path or os.environ.get("SSH_AUTH_SOCK", "")
        if not id:
            raise _usage_error("--ssh", text, "expected default, or ID=SOCKET")
        if not path:
            raise _usage_error("--ssh", text, "no agent is running: SSH_AUTH_SOCK is not set")
        if id in agents:
            raise _usage_error("--ssh", text, f"the id {id} is given twice")
        agents[id] = AgentSource(id, path)
    return tuple(agents.values())


def _secret(text: str) -> SecretSource:
    options: dict[str, str] = {}
    for field in csv_fields("--secret", text):
        key, equals, value = field.partition("=")
        name = _KEYS.get(key.strip().lower())
        if name is None or not equals:
            raise _usage_error("--secret", text, f"unexpected {field!r}; it takes id=, src=, env= and type=")
        if name in options:
            raise _usage_error("--secret", text, f"{key}= is given twice")
        options[name] = value
    id, kind = options.get("id", ""), options.get("type")
    if not id:
        raise _usage_error("--secret", text, "id= is missing")
    if kind not in (None, "file", "env"):
        raise _usage_error("--secret", text, f"type={kind}: it can be file or env")
    if "src" in options and "env" in options:
        raise _usage_error("--secret", text, "src= and env= exclude each other")
    if kind == "file" and "env" in options:
        raise _usage_error("--secret", text, "type=file does not take env=")
    if "env" in options or kind == "env":
        return SecretSource(id, "", options.get("env") or options.get("src") or id)
    if "src" not in options and kind is None and id in os.environ:
        return SecretSource(id, "", id)
    return SecretSource(id, options.get("src") or id)


def _usage_error(flag: str, text: str, message: str) -> click.UsageError:
    return click.UsageError(f"{flag} {text}: {message}")
