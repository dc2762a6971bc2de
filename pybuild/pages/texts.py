"""Texts of images and builds as a page shows them: everybody sees all of their characters."""

from __future__ import annotations

import os

from pybuild.report import printable


def shown_name(name: bytes) -> str:
    """A file's name, or a path, with control characters and bytes that are not UTF-8 escaped."""
    text = os.fsdecode(name)
    return text if text.isprintable() else printable(text)


def shown_text(text: str) -> str:
    """A text that can have several lines, with its other control characters escaped."""
    return text if text.isprintable() else "\n".join(map(printable, text.replace("\t", "    ").split("\n")))


def shown_json(value: object) -> object:
    """A JSON value with all its texts, also names of members, as `shown_text` gives them."""
    match value:
        case str():
            return shown_text(value)
        case dict():
            return {shown_text(str(key)): shown_json(member) for key, member in value.items()}
        case list() | tuple():
            return [shown_json(item) for item in value]
        case _:
            return value
