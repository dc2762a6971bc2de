"""The verbs, and where each is: a verb does not wait for what others import."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

VERBS = {
    "build": "build_command",
    "images": "image_commands",
    "tag": "image_commands",
    "rmi": "image_commands",
    "inspect": "image_commands",
    "history": "history_command",
    "diff": "diff_command",
    "export": "image_commands",
    "import": "image_commands",
    "pull": "pull_command",
    "logs": "logs_command",
    "gc": "gc_command",
    "df": "df_command",
    "fsck": "store_commands",
    "reset": "store_commands",
    "doctor": "doctor_command",
    "why": "why_command",
    "context": "context_command",
}


def verb(name: str) -> click.Command | None:
    """The command of that name."""
    module = VERBS.get(name)
    if module is None:
        return None
    found: click.Command = getattr(import_module(f"pybuild.{module}"), "import_" if name == "import" else name)
    return found
