"""Passwords in URLs: where a text is shown or kept, others stand in their place."""

from __future__ import annotations

import re

# To the last @ before the path, as browsers read it: a password may hold one.
_USER = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*)://(?P<user>[^\s/?#\"'`]*)@")


def redact(text: str) -> str:
    """The text with `xxxxx` for user and password of every URL. The user of an ssh URL is no secret."""
    return _USER.sub(_redacted, text) if "@" in text else text


def _redacted(match: re.Match[str]) -> str:
    scheme, user = match["scheme"], match["user"]
    if scheme == "ssh" and ":" not in user:
        return match[0]
    return f"{scheme}://{'xxxxx:xxxxx' if ':' in user else 'xxxxx'}@"
