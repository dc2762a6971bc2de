"""Which of its origins a registry answers at: found once, and known to all workers of a command.

A registry on this machine, and any registry with --tls-verify=false, is asked by https first and then by http. To find out
takes a request, and for https the certificates. So whoever gets an answer notes the origin in a file that all share. The
file is in a directory of this user; an origin in it only decides between those that the configuration allows.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.remote.http.urls import Origin


class KnownOrigins:
    """The origins in a file, one a line. Errors are ignored: then it is found out again."""

    def __init__(self, path: str = "") -> None:
        """Without a path nothing is noted."""
        self._path = path

    def find(self, origins: Sequence[Origin]) -> Origin | None:
        """The first of these origins that has answered before; None if that is unknown."""
        lines: set[str] = set()
        if self._path:
            with suppress(OSError), open(self._path, encoding="ascii") as file:
                lines.update(file.read().splitlines())
        return next((origin for origin in origins if str(origin) in lines), None)

    def add(self, origin: Origin) -> None:
        """Note an origin that has answered."""
        if self._path:
            with suppress(OSError), open(self._path, "a", encoding="ascii") as file:
                file.write(f"{origin}\n")
