"""The verbs, and where each is: a verb does not wait for what others import."""

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
    "export": "images",
    "import": "images",
    "pull": "pull",
    "logs": "logs",
    "gc": "gc",
    "df": "df",
    "fsck": "store",
    "reset": "store",
    "doctor": "doctor",
    "why": "why",
    "context": "context",
}


def verb(name: str) -> click.Command | None:
    """The command of that name."""
    module = VERBS.get(name)
    if module is None:
        return None
    found: click.Command = getattr(import_module(f"pybuild.commands.{module}"), "import_" if name == "import" else name)
    return found
