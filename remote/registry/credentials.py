"""Reading the credentials that `pybuild login`, docker and podman store. pybuild never shows them.

The first file of credential_files.py that has a credential for the repository counts. Within a file, the order is: the
helper that `credHelpers` names for the registry, the helper that `credsStore` names for all registries, the entry of
`auths` for the repository, its parents, or the registry (the longest key wins).

A file or helper that does not work is no reason to refuse a public image. pybuild goes on without it, and `troubles` says
what is wrong; if the registry then refuses access, the error says it too.
Sources: containers-auth.json(5); docker's config.json.
"""

from __future__ import annotations

import base64
import os
from dataclasses import field
from typing import TYPE_CHECKING

from pybuild.remote.errors import ConfigError
from pybuild.remote.http.urls import basic_authorization
from pybuild.remote.registry.credential_files import credential_files, helper_key, hosts_of, plain_key
from pybuild.remote.registry.helpers import ask_helper
from pybuild.store.errors import InvalidImage, NotFound, StoreError
from pybuild.store.formats.bounded_json import Fields, load_object
from pybuild.store.system.files import read_regular
from pybuild.values import frozen
from pybuild.values.limits import CREDENTIALS_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_TOKEN_USER = "<token>"  # a helper's user name if the secret is an identity token


@frozen
class Login:
    """A user name and a password."""

    user: str
    password: str = field(repr=False)

    def header(self) -> str:
        """The value of an Authorization header."""
        return basic_authorization(f"{self.user}:{self.password}")


@frozen
class IdentityToken:
    """An OAuth2 refresh token, for the token server."""

    token: str = field(repr=False)


@frozen
class RegistryToken:
    """A bearer token, sent to the registry as it is."""

    token: str = field(repr=False)


Credential = Login | IdentityToken | RegistryToken


class Credentials:
    """The credentials of this machine, read on first use. Results are remembered, so a helper runs once per repository."""

    def __init__(
        self, environ: Mapping[str, str], *, search_path: str | None = None, files: Sequence[str] | None = None
    ) -> None:
        """`search_path` is where helpers are; by default as helper_path() says. `files` are read instead of those that
        `environ` names.
        """
        self._environ = environ
        self._places = credential_files(environ) if files is None else files
        self._search_path = search_path
        self._files: list[tuple[str, Fields]] | None = None
        self._known: dict[tuple[str, str], Credential | None] = {}
        self._troubles: dict[str, None] = {}  # in order, each once

    @staticmethod
    def none() -> Credentials:
        """An empty set of credentials, for anonymous access."""
        return _Always(None)

    @staticmethod
    def only(credential: Credential) -> Credentials:
        """The same credential for every repository, to try a login that is not stored."""
        return _Always(credential)

    @property
    def troubles(self) -> tuple[str, ...]:
        """What is wrong with the files and helpers that `find` has tried so far. Never quotes their content."""
        return tuple(self._troubles)

    def find(self, registry: str, repository: str) -> Credential | None:
        """The credential for `registry/repository`, or None. What cannot be read or run is added to `troubles`."""
        key = (registry, repository)
        if key not in self._known:
            if self._files is None:
                self._files = list(self._read())
            found = (self._in_file(path, fields, registry, repository) for path, fields in self._files)
            self._known[key] = next((credential for credential in found if credential is not None), None)
        return self._known[key]

    def _read(self) -> Iterator[tuple[str, Fields]]:
        for path in self._places:
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                self._note(f"{path}: {error.strerror}")
                continue
            try:
                data = read_regular(fd, CREDENTIALS_BYTES, path)
                if data.strip():
                    yield path, Fields(load_object(data, path, limit=CREDENTIALS_BYTES), path)
                else:
                    self._note(f"{path} is empty")
            except StoreError as error:
                self._note(str(error))
            finally:
                os.close(fd)

    def _in_file(self, path: str, fields: Fields, registry: str, repository: str) -> Credential | None:
        try:
            helpers = fields.mapping("credHelpers")
            named = next((helpers[key] for key in hosts_of(registry) if helpers.get(key)), "")
            found = self._from_helper(path, named or fields.text("credsStore", ""), registry)
            # The helper that is named for this registry alone is the only one that counts.
            return found if found is not None or named else _in_auths(fields.object("auths"), registry, repository)
        except InvalidImage as error:
            self._note(str(error))
            return None

    def _note(self, trouble: str) -> None:
        self._troubles[trouble] = None

    def _from_helper(self, path: str, name: str, registry: str) -> Credential | None:
        """What the helper `name`, of the file `path`, has for a registry; None also if there is no helper, or it fails."""
        if not name:
            return None
        try:
            found = ask_helper(name, helper_key(registry), self._environ, search_path=self._search_path)
        except (NotFound, ConfigError) as error:
            self._note(f"{path}: {error}")
            return None
        if found is None:
            return None
        user, secret = found
        return IdentityToken(secret) if user == _TOKEN_USER else Login(user, secret)


class _Always(Credentials):
    """One credential, or none, whatever the files say."""

    def __init__(self, credential: Credential | None) -> None:
        super().__init__({}, files=())
        self._credential = credential

    def find(self, registry: str, repository: str) -> Credential | None:
        return self._credential


def _in_auths(auths: Fields, registry: str, repository: str) -> Credential | None:
    # Of two keys for the same server, the one without a scheme is the newer form. It comes last, so it wins.
    keys = {plain_key(key): key for key in sorted(auths.data, key=lambda key: "://" not in key)}
    path = repository.split("/")
    for length in range(len(path), -1, -1):
        for host in hosts_of(registry):
            key = keys.get("/".join([plain_key(host), *path[:length]]))
            if key is not None and (found := _entry(auths, key)) is not None:
                return found
    return None


def _entry(auths: Fields, key: str) -> Credential | None:
    entry = auths.object(key)
    if token := entry.text("identitytoken", ""):
        return IdentityToken(token)
    if token := entry.text("registrytoken", ""):
        return RegistryToken(token)
    if auth := entry.text("auth", ""):
        try:
            user, colon, password = base64.b64decode(auth, validate=True).decode("utf-8").partition(":")
        except ValueError:  # also what b64decode raises for characters beyond ASCII
            raise entry.wrong("auth", "user:password in base64") from None
        if not colon or not user:
            raise entry.wrong("auth", "user:password in base64")
        return Login(user, password.rstrip("\0"))
    user, password = entry.text("username", ""), entry.text("password", "")
    return Login(user, password) if user else None
