"""Logging in to a registry and out again: which registry, whether the login is right, and where it is stored.

A login goes to the credential helper that the file names for the registry (`credHelpers`, `credsStore`), and the file then
has an empty entry, as docker writes it. Without a helper the file has the password itself, in base64.
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING

from pybuild.remote.errors import ConfigError, RemoteError
from pybuild.remote.http.transport import public_error
from pybuild.remote.registry.credential_files import (
    DOCKER_HUB_KEYS,
    credential_files,
    file_to_write,
    helper_key,
    key_to_write,
    keys_for,
    plain_key,
)
from pybuild.remote.registry.credential_writer import open_locked
from pybuild.remote.registry.credentials import Credentials
from pybuild.remote.registry.endpoints import DOCKER_HUB, registry_endpoint
from pybuild.remote.registry.helpers import store_in_helper
from pybuild.remote.registry.json_edit import remove_entries, set_entry
from pybuild.remote.registry.session import RegistrySession
from pybuild.store.errors import InvalidImage, NotFound
from pybuild.store.formats.reference import Reference
from pybuild.values import frozen
from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pybuild.remote.registry.config import Config
    from pybuild.remote.registry.credential_writer import CredentialFile
    from pybuild.remote.registry.credentials import Login


@frozen
class LoginScope:
    """What a login is for: a registry, or with a `path` only the repositories below it."""

    registry: str  # host[:port] as in image names
    path: str = ""

    @staticmethod
    def parse(text: str) -> LoginScope:
        """Read HOST[:PORT][/PATH]; a scheme before it and /v1/ or /v2/ behind it have no meaning. Raises RemoteError."""
        plain = plain_key(text)
        host, _, path = plain.partition("/")
        if "@" in plain:
            raise RemoteError("a registry has no @ in its name", hint="--username and --password-stdin give a login")
        registry = DOCKER_HUB if host in DOCKER_HUB_KEYS else host
        try:
            # Another component makes a host alone and a path of one component valid names.
            found = Reference.parse(f"{registry}/{path}/x" if path else f"{registry}/x/x")
        except InvalidImage:
            raise RemoteError(
                f"{text[:300]!r} is not a registry", hint="HOST, HOST:PORT, or either with /PATH, without a tag"
            ) from None
        if found.domain != registry:
            raise RemoteError(
                f"{text[:300]!r} is not a registry",
                hint=f"image names read it as a part of docker.io; with a port it is a host: {host}:443",
            )
        return LoginScope(registry, path)

    def __str__(self) -> str:
        return f"{self.registry}/{self.path}" if self.path else self.registry


@frozen
class Place:
    """Where a login is stored: in a file, or if `helper` is not empty in the helper that the file names."""

    file: str
    helper: str = ""

    def __str__(self) -> str:
        return f"docker-credential-{self.helper}, which {self.file} names" if self.helper else self.file


def check_login(
    scope: LoginScope, login: Login, config: Config, environ: Mapping[str, str], *, tls_verify: bool
) -> bool:
    """Try a login at its registry. False if the registry does not ask for one, so that nobody has checked it.

    Raises Unauthorized if it is wrong, RemoteError if the registry cannot be asked.
    """
    endpoint = registry_endpoint(scope.registry, config, tls_verify=tls_verify)
    session = RegistrySession(endpoint, config.limits, Credentials.only(login), environ)
    try:
        return session.retry(session.log_in)
    except PybuildError as error:
        raise public_error(error) from None
    finally:
        session.close()


def login_file(scope: LoginScope, environ: Mapping[str, str], *, file: str = "", search_path: str | None = None) -> str:
    """The file for a login: where pulls find it first, or `file`. Changes nothing.

    Raises ConfigError if the file is broken, or if an earlier file, which cannot be written, would hide the login.
    """
    path = file or file_to_write(environ)
    if not file:
        _refuse_hidden(scope, environ, path, search_path)
    if os.path.exists(path):
        with open_locked(path):
            pass  # it can be read
    return path


def store_login(
    scope: LoginScope, login: Login, environ: Mapping[str, str], *, file: str = "", search_path: str | None = None
) -> Place:
    """Store a login in its file or in the helper of that file. Raises ConfigError; then nothing has changed."""
    path = login_file(scope, environ, file=file, search_path=search_path)
    with open_locked(path) as found:
        helper = helper_for(found, scope.registry)
        if helper and scope.path:
            raise ConfigError(
                f"{path}: docker-credential-{helper} stores one login for all of {scope.registry}, none for {scope}",
                hint=f"pybuild login {scope.registry}, or --authfile FILE for a file without helpers",
            )
        if helper:
            try:
                pair = (login.user, login.password)
                store_in_helper(helper, helper_key(scope.registry), pair, environ, search_path=search_path)
            except NotFound as error:
                raise ConfigError(
                    f"{path}: {error}", hint="install it, or --authfile FILE stores the login in a file"
                ) from None
        pair_text = base64.b64encode(f"{login.user}:{login.password}".encode()).decode("ascii")
        entry: dict[str, str] = {} if helper else {"auth": pair_text}
        found.replace(_with_entry(found, scope, entry))
    return Place(path, helper)


def helper_for(file: CredentialFile, registry: str) -> str:
    """The helper that a file names for a registry; "" if there is none."""
    named = (file.helpers[key] for key in keys_for(list(file.helpers), registry))
    return next((helper for helper in named if helper), file.default_helper)


def _with_entry(file: CredentialFile, scope: LoginScope, entry: dict[str, str]) -> str:
    """The text of a file with the only entry for this scope. Other spellings of its key could win, so they go."""
    key = key_to_write(file.path, scope.registry) if not scope.path else str(scope)
    others = [other for other in keys_for(list(file.auths.data), scope.registry, scope.path) if other != key]
    text = remove_entries(file.text, "auths", others) if others else file.text
    return set_entry(text, "auths", key, entry)


def _refuse_hidden(scope: LoginScope, environ: Mapping[str, str], path: str, search_path: str | None) -> None:
    """Refuse to write a login that an earlier file, which cannot be written, would hide."""
    files = credential_files(environ)
    for earlier in files[: files.index(path)]:
        credentials = Credentials(environ, search_path=search_path, files=[earlier])
        if credentials.find(scope.registry, scope.path) is not None:
            raise ConfigError(
                f"{earlier} has another login for {scope}, which pulls find first, and it cannot be written",
                hint="remove it there, or set REGISTRY_AUTH_FILE",
            )
