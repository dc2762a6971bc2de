"""The limits that the user changed: in the environment, which wins, and in the configuration files."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pybuild.remote.errors import ConfigError
from pybuild.remote.registry.config_files import configuration_files
from pybuild.values import limits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@contextmanager
def user_limits(environ: Mapping[str, str]) -> Iterator[None]:
    """Inside the `with`, the limits of the user apply. Raises ConfigError, which names the variable or file and key."""
    try:
        changed = limits.from_environment(environ)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    with limits.applied(changed):
        if not any(required or os.path.exists(path) for path, required in configuration_files(environ)):
            yield
            return
        from pybuild.remote.registry.config import Config  # a local import: most users have no such file

        with limits.applied_below(Config.load(environ).changed_limits):
            yield
