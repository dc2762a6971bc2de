"""Removal of passwords from URLs, for each text that is shown or stored."""

from __future__ import annotations

import re

from pybuild.values.pattern import pattern

# Up to the last @ before the path, as browsers read it: a password can contain an @.
_USER = pattern(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*)://(?P<user>[^\s/?#\"'`]*)@")


def redact(text: str) -> str:
    """The text with `xxxxx` for the user and password of each URL. The user of an ssh URL is not a secret and stays."""
    return _USER.sub(_redacted, text) if "@" in text else text


def _redacted(match: re.Match[str]) -> str:
    scheme, user = match["scheme"], match["user"]
    if scheme == "ssh" and ":" not in user:
        return match[0]
    return f"{scheme}://{'xxxxx:xxxxx' if ':' in user else 'xxxxx'}@"
