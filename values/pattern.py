"""Regular expressions that are compiled when they are first used.

Compiling one takes 0.1 ms and more. A cached build imports fifty and uses few of them.
"""

from __future__ import annotations

import re
from typing import Any, AnyStr

_METHODS = ("fullmatch", "match", "search", "finditer", "findall", "split", "sub", "subn")
_VALUES = ("pattern", "flags", "groups", "groupindex")


def pattern(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """What `re.compile` returns, as far as callers use it. A mistake in `text` shows at the first use, as re.error."""
    found: Any = _Pattern(text, flags)
    return found  # type: ignore[no-any-return]


class _Pattern:
    """Its own attributes are the arguments; after the first use it has those of the compiled expression too."""

    def __init__(self, text: str | bytes, flags: int) -> None:
        self._arguments: Any = (text, flags)

    def __getattr__(self, name: str) -> object:
        if name not in _METHODS + _VALUES:
            raise AttributeError(name)
        compiled = re.compile(*self._arguments)
        # From now on the methods are found like any attribute, without this one.
        vars(self).update({each: getattr(compiled, each) for each in _METHODS + _VALUES})
        return getattr(compiled, name)
