"""Removing logins from every place where a pull would find them: all files of docker and podman, and their helpers."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from pybuild.remote.errors import ConfigError
from pybuild.remote.registry.credential_files import (
    DOCKER_HUB_KEYS,
    credential_files,
    helper_key,
    keys_below,
    keys_for,
    plain_key,
)
from pybuild.remote.registry.credential_writer import open_locked
from pybuild.remote.registry.endpoints import DOCKER_HUB
from pybuild.remote.registry.helpers import erase_in_helper, servers_of_helper
from pybuild.remote.registry.json_edit import remove_entries
from pybuild.remote.registry.login import LoginScope, Place, helper_for
from pybuild.store.errors import NotFound
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pybuild.remote.registry.credential_writer import CredentialFile


@frozen
class Removed:
    """A login that is gone: its key or server, and the place that had it."""

    name: str
    place: Place


@frozen
class Logout:
    """What a logout did. `left` are logins for parts of the registry; `failures` are the places that did not work."""

    removed: tuple[Removed, ...]
    left: tuple[Removed, ...]
    failures: tuple[ConfigError, ...]


def remove_logins(
    scope: LoginScope | None, environ: Mapping[str, str], *, file: str = "", search_path: str | None = None
) -> Logout:
    """Remove the logins for a scope, or with None all, from all files or from `file`. A failure stops only its file."""
    removed: list[Removed] = []
    left: list[Removed] = []
    failures: list[ConfigError] = []
    for path in [file] if file else credential_files(environ):
        if not os.path.lexists(path):
            continue
        try:
            with open_locked(path) as found:
                for helper, server, name in _in_helpers(found, scope, environ, search_path):
                    try:
                        if erase_in_helper(helper, server, environ, search_path=search_path):
                            removed.append(Removed(name, Place(path, helper)))
                    except NotFound as error:
                        if helper != found.default_helper:  # pulls go on without that one, too
                            failures.append(ConfigError(f"{path}: {error}"))
                    except ConfigError as error:
                        failures.append(error)
                keys = list(found.auths.data)
                keys = keys if scope is None else keys_for(keys, scope.registry, scope.path)
                if keys:
                    found.replace(remove_entries(found.text, "auths", keys))
                removed += [Removed(_name(key), Place(path)) for key in keys if found.auths.data[key]]
                if scope is not None:
                    below = keys_below(list(found.auths.data), scope.registry, scope.path)
                    left += [Removed(_name(key), Place(path)) for key in below if found.auths.data[key]]
        except ConfigError as error:
            failures.append(error)
    return Logout(tuple(removed), tuple(left), tuple(failures))


def _in_helpers(
    file: CredentialFile, scope: LoginScope | None, environ: Mapping[str, str], search_path: str | None
) -> Iterator[tuple[str, str, str]]:
    """What to erase: helper, server, and its name in messages. A helper has no logins for a part of a registry."""
    if scope is not None:
        if not scope.path and (helper := helper_for(file, scope.registry)):
            yield helper, helper_key(scope.registry), scope.registry
        return
    servers = {(helper, helper_key(_name(key))): None for key, helper in file.helpers.items() if helper}
    if default := file.default_helper:
        servers |= {
            (default, helper_key(_name(key))): None
            for key in file.auths.data
            if helper_for(file, _name(key)) == default
        }
        with contextlib.suppress(NotFound):  # pulls go on without it, too
            servers |= {
                (default, server): None for server in servers_of_helper(default, environ, search_path=search_path)
            }
    for helper, server in servers:
        yield helper, server, _name(server)


def _name(key: str) -> str:
    """A key as image names have it."""
    plain = plain_key(key)
    host, slash, path = plain.partition("/")
    return f"{DOCKER_HUB if host in DOCKER_HUB_KEYS else host}{slash}{path}"
