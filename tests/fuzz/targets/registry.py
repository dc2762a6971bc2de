"""What a registry answers: statuses, headers and bodies, to pybuild's requests for a manifest and a blob.

An input is a list of responses with an empty line between them. The first line of a response is its status, each other line
a header; a line that begins with `=` is part of the body. Afterwards each connection breaks.
"""

from __future__ import annotations

import contextlib
import io
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from urllib3 import HTTPHeaderDict, HTTPResponse
from urllib3.exceptions import ProtocolError

from pybuild.remote.errors import RemoteError
from pybuild.remote.http.site import RemoteLimits
from pybuild.remote.http.transport import Transport
from pybuild.remote.http.urls import Url, address_of, is_forbidden
from pybuild.remote.registry.auth import Authorizer
from pybuild.remote.registry.config import Config, RegistrySettings
from pybuild.remote.registry.credentials import Credentials, Login
from pybuild.remote.registry.download import Download
from pybuild.remote.registry.endpoints import endpoints
from pybuild.remote.registry.session import RegistrySession
from pybuild.store.errors import StoreError
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.oci_manifest import Descriptor
from pybuild.store.formats.reference import Reference
from pybuild.values.limits import ERROR_BYTES
from tests.fuzz.target import FuzzTarget, check_refusal

if TYPE_CHECKING:
    from pybuild.remote.http.urls import Origin

PASSWORD = "S3cretWord"
TOKEN_HOST = "login.example"
CONTENT = b"0123456789"
MOST = 300  # requests for one blob: retries, redirects and tokens are all limited


class OneLogin(Credentials):
    """The same user and password for every registry."""

    def find(self, registry: str, repository: str) -> Login:
        return Login("user", PASSWORD)


class ScriptedTransport(Transport):
    """Answers with the responses of an input, and checks who gets the password."""

    def __init__(self, session: RegistrySession, script: list[bytes]) -> None:
        super().__init__(session.endpoint.site, session.limits, {}, clock=session.clock)
        self._script = script
        self._left = MOST

    def _pool(self, origin: Origin) -> Any:
        return SimpleNamespace(urlopen=self._answer)

    def _answer(self, method: str, address: str, headers: dict[str, str], **_: object) -> HTTPResponse:
        url = Url.parse(address)
        authorization = headers.get("Authorization")
        self._left -= 1
        assert self._left, "a server made pybuild send requests without end"
        numbers = address_of(url.origin.host)
        assert numbers is None or not is_forbidden(numbers), url
        if authorization is not None and not authorization.startswith("Bearer "):
            assert url.origin.scheme == "https", "the password went over plain http"
            assert url.origin.authority in ("registry.example", TOKEN_HOST), f"the password went to {url.origin}"
        if not self._script:
            raise ProtocolError("the connection broke")
        status, *lines = self._script.pop(0).split(b"\n")
        found = HTTPHeaderDict()
        for line in lines:
            name, colon, value = line.partition(b":")
            if colon and not line.startswith(b"="):
                found.add(name.decode("latin-1"), value.strip().decode("latin-1"))
        body = b"".join(line[1:] for line in lines if line.startswith(b"="))
        number = int(status) if status in STATUSES else 200
        return HTTPResponse(io.BytesIO(body), found, number, preload_content=False, request_method=method)


class Clock:
    """A clock that moves when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        assert 0 <= seconds <= RemoteLimits().wait_seconds
        self.now += seconds

    def time(self) -> float:
        self.now += 0.001
        return self.now


def read(data: bytes) -> bool:
    """The blob arrives whole or not at all, requests end, and the password goes to the registry and its token host only."""
    config = Config({"registry.example": RegistrySettings(token_hosts=(TOKEN_HOST,))})
    (endpoint,) = endpoints(Reference.parse("registry.example/team/app"), config)
    clock = Clock()
    session = RegistrySession(endpoint, config.limits, OneLogin({}), {}, sleep=clock.sleep, clock=clock.time)
    session._transport = ScriptedTransport(session, data.split(b"\n\n"))
    session._authorizer = Authorizer(endpoint, session._transport, OneLogin({}), config.limits, clock=clock.time)
    with contextlib.suppress(RemoteError, StoreError), session.retry(lambda: session.get("manifests/1.0", {})) as response:
        response.read(config.limits.error_bytes, "a manifest", ERROR_BYTES)
    file = io.BytesIO()
    try:
        Download(session, Descriptor("", Digest.of(CONTENT), len(CONTENT)), file, lambda _: None).run()
    except (RemoteError, StoreError) as error:
        assert PASSWORD not in f"{error} {error.hint}"
        assert not file.getvalue()
        return check_refusal(error)
    assert file.getvalue() == CONTENT
    return True


STATUSES = tuple(b"%d" % number for number in (
    200, 201, 204, 206, 301, 302, 303, 307, 308, 400, 401, 403, 404, 408, 410, 416, 429, 500, 503,
))  # fmt: skip
BEARER = b'401\nWWW-Authenticate: Bearer realm="https://login.example/token",service="s",scope="x"\n\n200\n={"token":"abc","expires_in":60}'
TARGET = FuzzTarget(
    read,
    seeds=(
        b"200\n={}\n\n200\nContent-Length: 10\n=0123456789",
        BEARER + b"\n\n200\n={}\n\n200\n=0123456789",
        b"401\nWWW-Authenticate: Basic realm=x\n\n200\n={}\n\n307\nLocation: https://cdn.example/x?y\n\n200\nETag: \"e\"\n=01234\n\n"
        b"206\nContent-Range: bytes 5-9/10\n=56789",
        b"429\nRetry-After: 5\n\n503\nRetry-After: Wed, 21 Oct 2015 07:28:00 GMT\n={\"errors\":[{\"message\":\"busy\"}]}\n\n200\n\n200\n=0123456789",
        b"200\n\n200\nETag: W/\"e\"\n=0123\n\n416\n\n200\n=0123456789",
        b"307\nLocation: //169.254.169.254/x\n\n200\n\n302\nLocation: http://registry.example/\n\n200\n=x",
        b'401\nWWW-Authenticate: Bearer realm="http://login.example:80/"\n\n404\n={"errors":[{"code":"UNKNOWN"}]}',
    ),
    words=(
        *STATUSES, b"\n\n", b"\n=", b"\nLocation: ", b"\nRetry-After: ", b"\nContent-Range: bytes ", b"\nContent-Length: ",
        b"\nContent-Encoding: gzip", b"\nETag: ", b"\nWWW-Authenticate: ", b"https://login.example", b"https://registry.example",
        b"http://", b"//evil.example/", b"../", b"@", b"?", b"#", b"[::1]", b"[", b"%00", b":0", b":443", b"registry.example.",
        b"LOGIN.EXAMPLE", b"Fri, 31 Dec 9999 23:59:59 -2359", b" +999999999999999999", b"0123456789", b'"expires_in":1e3', BEARER,
    ),
)  # fmt: skip
