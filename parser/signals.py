"""The signals of STOPSIGNAL."""

from __future__ import annotations

from pybuild.values.pattern import pattern

_NAMES = frozenset(
    [
        "ABRT",
        "ALRM",
        "BUS",
        "CHLD",
        "CLD",
        "CONT",
        "FPE",
        "HUP",
        "ILL",
        "INT",
        "IO",
        "IOT",
        "KILL",
        "PIPE",
        "POLL",
        "PROF",
        "PWR",
        "QUIT",
        "SEGV",
        "STKFLT",
        "STOP",
        "SYS",
        "TERM",
        "TRAP",
        "TSTP",
        "TTIN",
        "TTOU",
        "URG",
        "USR1",
        "USR2",
        "VTALRM",
        "WINCH",
        "XCPU",
        "XFSZ",
        "RTMIN",
        "RTMAX",
    ]
)
_REALTIME = pattern(r"RTMIN\+([1-9]|1[0-5])|RTMAX-([1-9]|1[0-4])")
_HIGHEST = 64


def valid_signal(text: str) -> bool:
    """Whether Linux has the signal: a name with or without SIG, `RTMIN+n`, `RTMAX-n`, or a number."""
    if text.isascii() and text.isdigit():
        return len(text) < 4 and 0 < int(text) <= _HIGHEST
    name = text.upper().removeprefix("SIG")
    return name in _NAMES or _REALTIME.fullmatch(name) is not None
