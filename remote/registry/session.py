"""Requests to one endpoint: https or http, authorization, and retries when it is busy."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from pybuild.remote.errors import RemoteError, TooSlow, Unauthorized
from pybuild.remote.http.retries import RETRY_STATUSES, Retries, retry_after
from pybuild.remote.http.transport import ConnectionRefused, Interrupted, NoTls, Request, RequestRefused, Transport
from pybuild.remote.http.urls import Url, is_private, printable
from pybuild.remote.registry.auth import Authorizer
from pybuild.remote.registry.known_origins import KnownOrigins
from pybuild.store.errors import InvalidImage, NotFound
from pybuild.store.formats.bounded_json import Fields, load_object
from pybuild.values.limits import ERROR_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pybuild.remote.http.site import RemoteLimits
    from pybuild.remote.http.transport import Body, Response
    from pybuild.remote.http.urls import Address, Origin
    from pybuild.remote.registry.credentials import Credentials
    from pybuild.remote.registry.endpoints import Endpoint

_ERRORS_SHOWN = 3

T = TypeVar("T")


class RegistrySession:
    """Requests to one endpoint. It remembers the scheme and the authorization. `sleep` waits before a retry."""

    def __init__(
        self,
        endpoint: Endpoint,
        limits: RemoteLimits,
        credentials: Credentials,
        environ: Mapping[str, str],
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        private: Callable[[Address], bool] = is_private,
        actions: str = "pull",
        sources: Sequence[str] = (),
        origins: KnownOrigins | None = None,
    ) -> None:
        """`actions` are what the token has to allow; `sources` the repositories from which blobs are mounted."""
        self._origins = origins or KnownOrigins()
        self.endpoint = endpoint
        self.limits = limits
        self.clock = clock
        self._sleep = sleep
        self._transport = Transport(endpoint.site, limits, environ, clock=clock, private=private)
        self._authorizer = Authorizer(
            endpoint, self._transport, credentials, limits, actions=actions, sources=sources, clock=clock
        )
        self._origin: Origin | None = None
        self._origin_is_known = len(endpoint.origins) == 1  # or noted, or there is nothing to find out

    def get(self, path: str, headers: Mapping[str, str], *, accept: tuple[int, ...] = (200,)) -> Response:
        """Send GET /v2/<repository>/<path> once. The response has a status of `accept`. The caller must close it.

        Raises NotFound, Unauthorized, Unreachable, Interrupted, TooSlow, RemoteError.
        """
        kind, _, target = path.partition("/")
        return self.send("GET", self.url(path), f"{kind.removesuffix('s')} {target}", headers, accept=accept)

    def url(self, path: str) -> Url:
        """The URL of /v2/<repository>/<path>."""
        return Url(self.origin(), f"/v2/{self.endpoint.repository}/{path}")

    def send(
        self,
        method: str,
        url: Url,
        item: str,
        headers: Mapping[str, str],
        *,
        accept: tuple[int, ...],
        body: bytes | Body | None = None,
        answer_seconds: float | None = None,
    ) -> Response:
        """Send a request once; `item` says in messages what it is about. The caller must close the response.

        The registry can have named the URL, as it does for uploads: another origin gets no credentials. Raises NotFound
        (after a GET or HEAD), RequestRefused, Unauthorized, Unreachable, Interrupted, TooSlow, RemoteError.
        """
        origin = self.origin()
        header = None
        if url.origin == origin:
            header = self._authorizer.header() if body is None else self._authorizer.renewed_header()
        response = self._transport.request(Request(method, url, headers, header, body, answer_seconds))
        # The credentials are not for the target of a redirect, so only the registry's own 401 is answered.
        if response.status == 401 and url.origin == response.url.origin == origin:
            response.close()
            header = self._authorizer.authorize(response.headers("WWW-Authenticate"), origin)
            response = self._transport.request(Request(method, url, headers, header, body, answer_seconds))
        if url.origin == origin and not self._origin_is_known:
            self._origins.add(origin)
            self._origin_is_known = True
        if response.status in accept:
            return response
        with response:
            raise self._failure(response, item)

    def log_in(self) -> bool:
        """Send GET /v2/ once, with the credentials if the registry asks for them. Returns whether it does.

        Raises Unauthorized if it refuses them, and the errors of `get`.
        """
        origin = self.origin()
        url = Url(origin, "/v2/")
        response = self._transport.request(Request("GET", url))
        asked = response.status == 401 and response.url.origin == origin
        if asked:
            response.close()
            header = self._authorizer.authorize(response.headers("WWW-Authenticate"), origin)
            response = self._transport.request(Request("GET", url, authorization=header))
        with response:
            status, name = response.status, self.endpoint.name
            if status == 200:
                return asked
            if status == 401:
                raise self._authorizer.access_denied()
            reason = self._server_messages(response)
            reason = f": {reason}" if reason else ""
            if status == 403:
                raise Unauthorized(f"{name}: this login is refused{reason}")
            if status == 404:
                raise RemoteError(f"{name} is not a registry: status 404 for {url}")
            if status in RETRY_STATUSES:
                raise Interrupted(f"{name}: status {status} for {url}{reason}", wait=retry_after(response))
            raise RemoteError(f"{name}: status {status} for {url}{reason}")

    def retry(self, action: Callable[[], T]) -> T:
        """Repeat an action after Interrupted or TooSlow, within the limit of retries. Raises TooSlow, Unreachable."""
        retries = Retries(self.limits, self._sleep)
        while True:
            try:
                return action()
            except (Interrupted, TooSlow) as error:
                retries.wait(error, self.endpoint.name)

    def retries(self) -> Retries:
        """New retries, for a caller that keeps state from one try to the next."""
        return Retries(self.limits, self._sleep)

    def origin(self) -> Origin:
        """The origin of the registry, http or https; the first call finds out which, unless that is known."""
        if self._origin is None:
            self._origin = self.retry(self._find_origin)
        return self._origin

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def _find_origin(self) -> Origin:
        origins = self.endpoint.origins
        if (known := self._origins.find(origins)) is not None:
            self._origin_is_known = True
            return known
        for origin in origins[:-1]:
            try:
                self._transport.require_tls(origin)
                self._transport.request(Request("GET", Url(origin, "/v2/"))).close()
                return origin
            except (NoTls, Interrupted):
                continue
            except ConnectionRefused:
                if origins[-1].port == origin.port:
                    raise
        return origins[-1]

    def _failure(self, response: Response, item: str) -> RemoteError | NotFound:
        name, status = self.endpoint.name, response.status
        own = response.url.origin == self.origin()
        if not own:
            name = f"{name}, from {response.url.origin}"
        elif status == 401:
            return self._authorizer.access_denied()
        reason = self._server_messages(response)
        reason = f": {reason}" if reason else ""
        if status == 403:
            message = f"{name}: access to {item} is forbidden{reason}"
            return self._authorizer.forbidden(message) if own else Unauthorized(message)
        if status == 404 and response.request.method in ("GET", "HEAD"):
            return NotFound(f"{name}: there is no {item}{reason}")
        if status in RETRY_STATUSES:
            return Interrupted(f"{name}: status {status} for {item}{reason}", wait=retry_after(response))
        return RequestRefused(f"{name}: status {status} for {item}{reason}", status=status)

    def _server_messages(self, response: Response) -> str:
        """The messages of an error response in the distribution-spec's form; "" for any other response."""
        try:
            data = response.read(self.limits.error_bytes, "an error", ERROR_BYTES)
            document = Fields(load_object(data, "error", limit=ERROR_BYTES), "error")
            messages = [error.text("message", "") or error.text("code", "") for error in document.objects("errors")]
        except (RemoteError, InvalidImage):
            return ""
        return printable("; ".join(message for message in messages[:_ERRORS_SHOWN] if message))
