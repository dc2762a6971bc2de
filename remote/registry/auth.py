"""Authentication at a registry, without giving the credentials to any other server.

The registry answers 401 and names a scheme. Basic sends user and password with every request. Bearer names a token
server, the *realm*. The registry, or a server that it redirects to, chooses that URL and could have our
credentials sent anywhere. So pybuild uses a realm only if

* it is https, or the registry itself speaks plain http;
* it is not written as a private address, unless it is the registry's own host and port or the user named it;
* for a request with credentials: it is the registry's own host and port, the built-in one of docker.io, or one that
  the user named in `token-hosts`.

The token is for the scope that pybuild needs, never for a scope that the registry names.
Source: distribution's token and OAuth2 specifications.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pybuild.remote.errors import RemoteError, Unauthorized
from pybuild.remote.http.transport import Interrupted, Request
from pybuild.remote.http.urls import Origin, Url, address_of, is_private, printable
from pybuild.remote.registry.challenges import parse_challenges
from pybuild.remote.registry.credentials import IdentityToken, Login, RegistryToken
from pybuild.store.errors import InvalidImage
from pybuild.store.formats.bounded_json import Fields, load_object
from pybuild.values.limits import TOKEN_BYTES
from pybuild.values.pattern import pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pybuild.remote.http.site import RemoteLimits
    from pybuild.remote.http.transport import Transport
    from pybuild.remote.registry.credentials import Credential, Credentials
    from pybuild.remote.registry.endpoints import Endpoint

CLIENT_ID = "pybuild"
_DEFAULT_SECONDS = 60  # a token without expires_in
_EARLY_SECONDS = 10  # pybuild renews a token this long before it expires
_TOKEN = pattern(r"[A-Za-z0-9._~+/=-]+")  # RFC 6750, b64token
_BUSY = frozenset((429, 500, 502, 503, 504))


class Authorizer:
    """Authorization headers for one endpoint: one repository and the actions on it, or the registry for a login."""

    def __init__(
        self,
        endpoint: Endpoint,
        transport: Transport,
        credentials: Credentials,
        limits: RemoteLimits,
        *,
        actions: str = "pull",
        sources: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`sources` are other repositories, from which blobs are mounted."""
        self._endpoint = endpoint
        self._transport = transport
        self._credentials = credentials
        self._limits = limits
        self._scopes = [f"repository:{endpoint.repository}:{actions}"] if endpoint.repository else []
        self._scopes += [f"repository:{source}:pull" for source in sources]
        self._clock = clock
        self._header: str | None = None
        self._expires = float("inf")
        self._asked: tuple[Sequence[str], Origin] | None = None  # what the registry's last 401 asked for

    def header(self) -> str | None:
        """The current header; None before the registry has asked for one, and after it has expired."""
        if self._clock() >= self._expires:
            self._header = None
        return self._header

    def renewed_header(self) -> str | None:
        """The current header. If it has expired, a new one: a large body is not sent only to learn that.

        Raises Unauthorized, and the errors of a request.
        """
        if self.header() is None and self._asked is not None:
            return self.authorize(*self._asked)
        return self._header

    def authorize(self, refusals: Sequence[str], origin: Origin) -> str:
        """Make the header that a 401 of the registry asks for. `refusals` are its WWW-Authenticate headers.

        A token server can refuse everything because of a repository that it does not give us: then there is no token for
        `sources`. Raises Unauthorized, and the errors of a request.
        """
        self._asked = refusals, origin
        try:
            return self._authorize(refusals, origin)
        except Unauthorized:
            if len(self._scopes) <= 1:
                raise
            del self._scopes[1:]
            return self._authorize(refusals, origin)

    def _authorize(self, refusals: Sequence[str], origin: Origin) -> str:
        self._header = None
        challenges = parse_challenges(refusals)
        credential = self._credentials.find(self._endpoint.registry, self._endpoint.repository)
        if credential is not None and not self._endpoint.may_send_credentials(origin):
            raise Unauthorized(
                f"{self._endpoint.name}: credentials are not sent over plain http",
                hint=f'plain-http = true in [registry."{self._endpoint.registry}"] of the configuration allows it',
            )
        by_scheme = {challenge.scheme: challenge.parameters for challenge in reversed(challenges)}
        if isinstance(credential, RegistryToken):
            self._header, self._expires = self._bearer_header(credential.token), float("inf")
        elif "bearer" in by_scheme:
            self._header, seconds = self._fetch_token(by_scheme["bearer"], credential, origin)
            self._expires = self._clock() + max(seconds - _EARLY_SECONDS, 1)
        elif "basic" in by_scheme:
            if not isinstance(credential, Login):
                raise self.access_denied(credential)
            self._header, self._expires = credential.header(), float("inf")
        else:
            schemes = ", ".join(sorted(by_scheme)) or "none"
            raise Unauthorized(f"{self._endpoint.name}: unsupported authentication schemes: {printable(schemes)}")
        return self._header

    def access_denied(self, credential: Credential | None = None) -> Unauthorized:
        """The error if the registry refuses the credential, or a request without one."""
        if not self._endpoint.repository:
            return Unauthorized(
                f"{self._endpoint.name}: wrong user name or password",
                hint="some registries want an access token in place of the password, for example with two-factor login",
            )
        credential = credential or self._credentials.find(self._endpoint.registry, self._endpoint.repository)
        if credential is None:
            return Unauthorized(f"{self._endpoint.name}: access denied without credentials", hint=self._login_hint)
        return Unauthorized(
            f"{self._endpoint.name}: access denied with the credentials of this machine",
            hint="is the name right, and are the credentials still valid?",
        )

    def forbidden(self, message: str) -> Unauthorized:
        """The error for a 403, with a hint if there are no credentials."""
        found = self._credentials.find(self._endpoint.registry, self._endpoint.repository)
        return Unauthorized(message, hint=self._login_hint if found is None else None)

    @property
    def _login_hint(self) -> str:
        """What to do without credentials."""
        if troubles := self._credentials.troubles:
            return f"not used: {'; '.join(troubles)}"
        return f"log in with: pybuild login {self._endpoint.registry}; is the name right?"

    def _fetch_token(
        self, parameters: Mapping[str, str], credential: Login | IdentityToken | None, origin: Origin
    ) -> tuple[str, int]:
        """A header from the token server, and the seconds for which it is valid."""
        realm = self._realm(parameters.get("realm", ""), origin, with_credentials=credential is not None)
        service = parameters.get("service", "")
        fields = [("service", service)] if service else []
        if isinstance(credential, IdentityToken):
            fields += [("scope", " ".join(self._scopes))] if self._scopes else []
            login = [("grant_type", "refresh_token"), ("refresh_token", credential.token), ("client_id", CLIENT_ID)]
            request = Request(
                "POST",
                realm,
                {"Content-Type": "application/x-www-form-urlencoded"},
                body=urlencode(login + fields).encode("ascii"),
            )
        else:
            fields += [("scope", scope) for scope in self._scopes]
            separator = ("&" if "?" in realm.target else "?") if fields else ""
            url = Url(realm.origin, f"{realm.target}{separator}{urlencode(fields)}")
            request = Request("GET", url, authorization=None if credential is None else credential.header())
        with self._transport.request(request) as response:
            if response.status in (401, 403):
                raise self.access_denied(credential)
            if response.status in _BUSY:
                raise Interrupted(f"{realm.origin}: no token: status {response.status}")
            if response.status != 200:
                raise Unauthorized(f"{self._endpoint.name}: {realm.origin} gives no token: status {response.status}")
            data = response.read(self._limits.token_bytes, "a token", TOKEN_BYTES)
        return self._parse_token(data, realm)

    def _parse_token(self, data: bytes, realm: Url) -> tuple[str, int]:
        try:
            response = Fields(load_object(data, "token", limit=TOKEN_BYTES), "token")
            token = response.text("token", "") or response.text("access_token")
            given = response.data.get("expires_in")
            seconds = _DEFAULT_SECONDS if given is None else response.integer("expires_in", 1 << 40)
        except InvalidImage as error:
            raise Unauthorized(
                f"{self._endpoint.name}: the response of {realm.origin}: {error}", hint=error.hint
            ) from None
        return self._bearer_header(token), seconds

    def _bearer_header(self, token: str) -> str:
        if not _TOKEN.fullmatch(token):
            raise Unauthorized(f"{self._endpoint.name}: the token has invalid characters")
        return f"Bearer {token}"

    def _realm(self, text: str, origin: Origin, *, with_credentials: bool) -> Url:
        """The checked URL of the token server."""
        registry = self._endpoint.registry
        try:
            realm = Url.parse(text)
        except RemoteError as error:
            raise Unauthorized(f"{registry} names an invalid token server: {error}") from None
        if realm.origin == origin:
            return realm
        if realm.origin.scheme == "http" and origin.scheme == "https":
            raise Unauthorized(f"{registry} names a token server without TLS, {realm.origin}, which is not used")
        own = (realm.origin.host, realm.origin.port) == (origin.host, origin.port)
        names = {realm.origin.authority, f"{realm.origin.authority.partition(':')[0]}:{realm.origin.port}"}
        trusted = own or not names.isdisjoint(self._endpoint.token_hosts)
        address = address_of(realm.origin.host)
        if address is not None and is_private(address) and not trusted:
            raise Unauthorized(f"{registry} names a token server at a private address, {realm.origin.authority}")
        if with_credentials and not trusted:
            raise Unauthorized(
                f"{registry} names {realm.origin.authority} as its token server, which does not get credentials",
                hint=f'token-hosts = ["{realm.origin.authority}"] in [registry."{registry}"] of the configuration',
            )
        if with_credentials and not self._endpoint.may_send_credentials(realm.origin):
            raise Unauthorized(f"{registry}: credentials are not sent over plain http, to {realm.origin.authority}")
        return realm
