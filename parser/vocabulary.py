"""The words of the language: its instructions and their flags, and which of them this version builds."""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple


class Flags(NamedTuple):
    """The flags of one instruction, without their dashes."""

    supported: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()


SUPPORTED = MappingProxyType(
    {
        "FROM": Flags((), ("platform",)),
        "ARG": Flags(),
        "ENV": Flags(),
        "LABEL": Flags(),
        "RUN": Flags((), ("mount", "network", "security", "device")),
        "COPY": Flags(("from", "chown", "chmod"), ("link", "parents", "exclude")),
        "WORKDIR": Flags(),
        "USER": Flags(),
        "CMD": Flags(),
        "ENTRYPOINT": Flags(),
        "EXPOSE": Flags(),
        "VOLUME": Flags(),
        "SHELL": Flags(),
        "STOPSIGNAL": Flags(),
    }
)
UNSUPPORTED = ("ADD", "HEALTHCHECK", "ONBUILD", "MAINTAINER")
WITH_HEREDOCS = ("RUN", "COPY", "ADD")
