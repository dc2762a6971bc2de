"""Where credentials lie: the files of docker and podman, and the keys that they use for a registry.

pybuild reads these files, in this order:

    $REGISTRY_AUTH_FILE; if it is set, no other file is read                           podman, buildah, skopeo
    $DOCKER_CONFIG/config.json, if the variable is set                                 docker, podman
    $XDG_RUNTIME_DIR/containers/auth.json, without the variable /run/containers/UID/auth.json     podman
    $XDG_CONFIG_HOME/containers/auth.json                                              podman
    ~/.docker/config.json, unless $DOCKER_CONFIG is set                                docker, podman

A login is written to the first of them that exists, so that no older login hides it. If none exists, a file that a
variable names is made; without such a variable it is ~/.docker/config.json, the only file that docker and podman both
read. `podman login` would make the file in $XDG_RUNTIME_DIR, which docker does not read and which is gone after a reboot.
Sources: containers-auth.json(5); podman-login(1); docker's config.json.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.remote.errors import ConfigError
from pybuild.remote.registry.endpoints import DOCKER_HUB

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DOCKER_HUB_KEY = "https://index.docker.io/v1/"  # as docker login writes it
DOCKER_HUB_KEYS = ("docker.io", "index.docker.io", "registry-1.docker.io")
DOCKER_FILE = "config.json"
_SCHEMES = ("https://", "http://")


def credential_files(environ: Mapping[str, str]) -> list[str]:
    """The files that can hold credentials, in the order to read them."""
    if named := environ.get("REGISTRY_AUTH_FILE"):
        return [named]
    home = environ.get("HOME", "")
    config = environ.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else "")
    docker = environ.get("DOCKER_CONFIG", "")
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    files = (
        docker and f"{docker}/{DOCKER_FILE}",
        f"{runtime}/containers/auth.json" if runtime else _file_without_runtime_directory(),
        config and f"{config}/containers/auth.json",
        home and not docker and f"{home}/.docker/{DOCKER_FILE}",
    )
    return [path for path in files if path]


def file_to_write(environ: Mapping[str, str]) -> str:
    """The file that gets a new login: the module says which. Raises ConfigError if there is no place for one."""
    files = credential_files(environ)
    existing = [path for path in files if os.path.lexists(path)]
    if writable := [path for path in existing if _is_writable(path)]:
        return writable[0]
    absent = [path for path in files if path not in existing]
    if not absent:
        where = f"{', '.join(existing)}: not writable" if existing else "there is no home directory"
        raise ConfigError(f"no place for a login: {where}", hint="--authfile FILE names another file")
    named = environ.get("REGISTRY_AUTH_FILE") or environ.get("DOCKER_CONFIG")
    return absent[0] if named else absent[-1]


def hosts_of(registry: str) -> tuple[str, ...]:
    """The keys that a file can use for a registry."""
    return (DOCKER_HUB_KEY, *DOCKER_HUB_KEYS) if registry == DOCKER_HUB else (registry,)


def key_to_write(path: str, registry: str) -> str:
    """The key of a registry in a file. docker and podman differ for docker.io only."""
    return DOCKER_HUB_KEY if registry == DOCKER_HUB and os.path.basename(path) == DOCKER_FILE else registry


def helper_key(registry: str) -> str:
    """The name of a registry for a credential helper."""
    return DOCKER_HUB_KEY if registry == DOCKER_HUB else registry


def plain_key(key: str) -> str:
    """A key without the scheme and the API version that old tools add."""
    for scheme in _SCHEMES:
        key = key.removeprefix(scheme)
    key = key.rstrip("/")
    for version in ("/v1", "/v2"):
        key = key.removesuffix(version)
    return key


def keys_for(keys: Sequence[str], registry: str, path: str = "") -> list[str]:
    """Those of `keys` that mean `registry` or, with a `path`, exactly this part of it."""
    wanted = {"/".join(part for part in (plain_key(host), path) if part) for host in hosts_of(registry)}
    return [key for key in keys if plain_key(key) in wanted]


def keys_below(keys: Sequence[str], registry: str, path: str = "") -> list[str]:
    """Those of `keys` that mean a part of `registry`, or of the `path` in it."""
    wanted = tuple(f"{plain_key(host)}/{f'{path}/' if path else ''}" for host in hosts_of(registry))
    return [key for key in keys if plain_key(key).startswith(wanted)]


def _file_without_runtime_directory() -> str:
    """Podman's file if there is no XDG_RUNTIME_DIR; "" if this user has none there."""
    path = f"/run/containers/{os.getuid()}/auth.json"
    # Root of a user namespace can find the file of the real root there, which it must not read.
    return path if os.access(path, os.R_OK) else ""


def _is_writable(path: str) -> bool:
    """Whether a file can be replaced, or the missing file behind a link made: its directory has to be writable."""
    directory = os.path.dirname(os.path.realpath(path))
    while not os.path.lexists(directory):
        directory = os.path.dirname(directory)
    return os.access(directory, os.W_OK | os.X_OK)
