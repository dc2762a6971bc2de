"""Where the configuration files are. A module of its own, because each command asks whether there is one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_SYSTEM = "/etc/pybuild/config.toml"


def configuration_files(environ: Mapping[str, str]) -> list[tuple[str, bool]]:
    """The paths of the files, later ones win, each with whether it must exist."""
    if named := environ.get("PYBUILD_CONFIG"):
        return [(os.path.abspath(named), True)]
    files = [(_SYSTEM, False)]
    home = environ.get("XDG_CONFIG_HOME") or (f"{environ['HOME']}/.config" if environ.get("HOME") else "")
    if home.startswith("/"):
        files.append((f"{home}/pybuild/config.toml", False))
    return files
