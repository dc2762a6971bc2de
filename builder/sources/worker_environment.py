"""The user's environment as a worker gets it that talks to other machines."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_PATHS = ("PYBUILD_CONFIG", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "SSL_CERT_FILE", "SSL_CERT_DIR")


def worker_environment(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """All variables, because credential helpers can read any of them, sorted by name.

    Paths become absolute: the working directory of a worker is not the user's.
    """
    changed = {name: os.path.abspath(environ[name]) for name in _PATHS if environ.get(name)}
    return tuple(sorted({**environ, **changed}.items()))
