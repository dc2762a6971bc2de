"""The verbs and their modules. Only the module of the chosen verb is imported."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

VERBS = {
    "build": "build",
    "images": "images",
    "tag": "images",
    "rmi": "images",
    "inspect": "images",
    "history": "history",
    "diff": "diff",
    "explore": "explore",
    "report": "report",
    "export": "images",
    "import": "images",
    "pull": "pull",
    "fetch": "fetch",
    "push": "push",
    "copy": "copy",
    "index": "index",
    "login": "login",
    "logout": "login",
    "logs": "logs",
    "gc": "gc",
    "df": "df",
    "fsck": "store",
    "reset": "store",
    "doctor": "doctor",
    "self-test": "self_test",
    "check-image": "check_image",
    "why": "why",
    "cache": "cache",
    "context": "context",
    "completion": "completion",
    "help": "help",
    "version": "help",
}


def verb(name: str) -> click.Command | None:
    """The command for a verb, or None if there is no such verb."""
    module = VERBS.get(name)
    if module is None:
        return None
    function = f"{name}_" if name in ("import", "help") else name.replace("-", "_")  # Python has these names
    found: click.Command = getattr(import_module(f"pybuild.commands.{module}"), function)
    return found
