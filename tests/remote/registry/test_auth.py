"""Which servers get credentials, and which do not."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import pytest

from pybuild.remote.errors import RemoteError, Unauthorized, Unreachable
from pybuild.remote.http.site import RemoteLimits
from pybuild.remote.registry.config import Config, RegistrySettings
from pybuild.remote.registry.credentials import Credentials
from pybuild.remote.registry.endpoints import endpoints
from pybuild.store.formats.reference import Reference
from tests.support.fake_registry import LINUX, FakeRegistry, Image, Setup, fake_registry, plain, redirect, reply

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.fake_registry import Handler, Route

IMAGE = Image()
MANIFEST = IMAGE.path("manifests", "1")
BASIC = "Basic " + base64.b64encode(b"me:secret").decode()
LOGIN = {"auth": base64.b64encode(b"me:secret").decode()}
SCOPE = "repository:team/app:pull"


def credentials_for(directory: Path, *fakes: FakeRegistry, entry: Mapping[str, str] | None = None) -> Credentials:
    """Credentials for these registries, in a file."""
    path = directory / "auth.json"
    path.write_text(json.dumps({"auths": {fake.host: entry or LOGIN for fake in fakes}}))
    return Credentials({"REGISTRY_AUTH_FILE": str(path)})


def challenge(text: str, status: int = 401) -> Route:
    return reply(status=status, headers={"WWW-Authenticate": text})


def bearer(realm: str, extra: str = 'service="registry"') -> Route:
    return challenge(f'Bearer realm="{realm}",{extra},scope="repository:somebody/else:pull,push"')


def guarded(want: str, refusal: Route, body: bytes = IMAGE.manifest) -> Route:
    """Serve a request with the right Authorization header, refuse any other."""

    def route(handler: Handler) -> None:
        (reply(body) if handler.headers.get("Authorization") == want else refusal)(handler)

    return route


def token(text: str = "abc", **fields: object) -> Route:
    return reply(json.dumps({"token": text, **fields}).encode())


def fetch(setup: Setup, fake: FakeRegistry) -> bytes:
    with setup.client() as client:
        return client.manifest(IMAGE.reference(fake), LINUX).data


def assert_no_secret(*fakes: FakeRegistry) -> None:
    for fake in fakes:
        for seen in fake.seen:
            everything = f"{seen.path}?{seen.query} {seen.headers} {seen.body!r}"
            assert "secret" not in everything
            assert LOGIN["auth"] not in everything


# -- basic


def test_basic_credentials_are_sent_when_asked_for(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.on(MANIFEST, guarded(BASIC, challenge('Basic realm="x"')))
    setup = plain(fake, credentials=credentials_for(tmp_path, fake))
    with setup.client() as client:
        for _ in range(2):
            client.manifest(IMAGE.reference(fake), LINUX)
    assert [seen.authorization for seen in fake.seen] == [None, BASIC, BASIC]


def test_credentials_are_not_sent_without_a_challenge(fake: FakeRegistry, tmp_path: Path) -> None:
    IMAGE.serve(fake)
    fetch(plain(fake, credentials=credentials_for(tmp_path, fake)), fake)
    assert [seen.authorization for seen in fake.seen] == [None]


def test_refused_credentials_are_an_error_after_two_requests(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.on(MANIFEST, challenge('Basic realm="x"'))
    with pytest.raises(Unauthorized, match="access denied with the credentials of this machine") as caught:
        fetch(plain(fake, credentials=credentials_for(tmp_path, fake)), fake)
    assert "secret" not in f"{caught.value} {caught.value.hint}"
    assert len(fake.seen) == 2


def test_without_credentials_basic_is_not_tried(fake: FakeRegistry) -> None:
    fake.on(MANIFEST, challenge('Basic realm="x"'))
    with pytest.raises(Unauthorized, match="access denied without credentials") as caught:
        fetch(plain(fake), fake)
    assert f"pybuild login {fake.host}" in str(caught.value.hint)
    assert len(fake.seen) == 1


def test_a_refusal_names_the_file_that_could_not_be_read(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.on(MANIFEST, challenge('Basic realm="x"'))
    (tmp_path / "auth.json").write_text("{")
    with pytest.raises(Unauthorized, match="access denied without credentials") as caught:
        fetch(plain(fake, credentials=Credentials({"REGISTRY_AUTH_FILE": f"{tmp_path}/auth.json"})), fake)
    assert f"not used: {tmp_path}/auth.json is not JSON" in str(caught.value.hint)


@pytest.mark.parametrize("stored", [True, False], ids=["credentials", "no credentials"])
def test_a_403_names_login_if_there_are_no_credentials(fake: FakeRegistry, tmp_path: Path, stored: bool) -> None:
    fake.on(MANIFEST, reply(status=403))
    setup = plain(fake, credentials=credentials_for(tmp_path, fake)) if stored else plain(fake)
    with pytest.raises(Unauthorized, match="access to manifest 1 is forbidden") as caught:
        fetch(setup, fake)
    assert (f"pybuild login {fake.host}" in str(caught.value.hint)) is not stored


@pytest.mark.parametrize("text", ["", "Negotiate", 'Digest realm="x", nonce="y"', "\x80", "=,=", 'Basic realm="open'])
def test_an_unsupported_challenge_is_an_error(fake: FakeRegistry, tmp_path: Path, text: str) -> None:
    fake.on(MANIFEST, challenge(text))
    with pytest.raises(Unauthorized, match=r"access denied|unsupported authentication schemes") as caught:
        fetch(plain(fake, credentials=credentials_for(tmp_path, fake)), fake)
    assert str(caught.value).isprintable()


def test_over_plain_http_credentials_go_only_to_this_machine(stranger: FakeRegistry, tmp_path: Path) -> None:
    """The registry has a name that does not look like loopback, which the proxy resolves."""
    stranger.on(f"http://registry.test{MANIFEST}", challenge('Basic realm="x"'))
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"auths": {"registry.test": LOGIN}}))
    stranger.on("http://registry.test/v2/", reply())
    setup = Setup(
        credentials=Credentials({"REGISTRY_AUTH_FILE": str(path)}),
        environ={"http_proxy": stranger.url, "https_proxy": stranger.url},
        options={"tls_verify": False},
    )

    def no_tls(handler: Handler) -> None:
        handler.send(b"HTTP/1.1 200 OK\r\n\r\n")
        handler.connection.recv(1)
        handler.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        handler.until_closed()

    stranger.on("registry.test:443", no_tls)
    reference = Reference.parse("registry.test/team/app:1")
    with setup.client() as client, pytest.raises(Unauthorized, match="not sent over plain http") as caught:
        client.manifest(reference, LINUX)
    assert "plain-http = true" in str(caught.value.hint)
    assert_no_secret(stranger)
    setup.registries["registry.test"] = RegistrySettings(plain_http=True)
    stranger.on(f"http://registry.test{MANIFEST}", guarded(BASIC, challenge('Basic realm="x"')))
    with setup.client() as client:
        assert client.manifest(reference, LINUX).data == IMAGE.manifest


# -- tokens


@pytest.mark.parametrize("field", ["token", "access_token"])
def test_a_token_is_fetched_from_the_realm_and_used_until_it_expires(
    fake: FakeRegistry, tmp_path: Path, field: str
) -> None:
    fake.on(MANIFEST, guarded("Bearer abc", bearer(f"{fake.url}/token?a=b")))
    fake.on("/token", reply(json.dumps({field: "abc", "expires_in": 300}).encode()))
    now = 0.0
    setup = plain(fake, credentials=credentials_for(tmp_path, fake), options={"clock": lambda: now})
    with setup.client() as client:
        for now in (0.0, 200.0, 500.0):  # noqa: B007 - the clock reads it
            client.manifest(IMAGE.reference(fake), LINUX)
    assert [seen.path for seen in fake.seen] == [MANIFEST, "/token", MANIFEST, MANIFEST, MANIFEST, "/token", MANIFEST]
    asked = fake.seen[1]
    assert parse_qs(asked.query) == {"a": ["b"], "service": ["registry"], "scope": [SCOPE]}
    assert asked.authorization == BASIC
    assert fake.seen[2].authorization == "Bearer abc"


def test_a_token_needs_no_credentials(fake: FakeRegistry) -> None:
    fake.on(MANIFEST, guarded("Bearer abc", bearer(f"{fake.url}/token")))
    fake.on("/token", token())
    assert fetch(plain(fake), fake) == IMAGE.manifest
    assert fake.asked("/token")[0].authorization is None


def test_each_repository_has_a_token_of_its_own(fake: FakeRegistry) -> None:
    other = Image(repository="team/other")
    fake.on("/token", token("one"), token("two"))
    fake.on(MANIFEST, guarded("Bearer one", bearer(f"{fake.url}/token")))
    fake.on(other.path("manifests", "1"), guarded("Bearer two", bearer(f"{fake.url}/token"), other.manifest))
    with plain(fake).client() as client:
        client.manifest(IMAGE.reference(fake), LINUX)
        client.manifest(other.reference(fake), LINUX)
    scopes = [parse_qs(seen.query)["scope"] for seen in fake.asked("/token")]
    assert scopes == [[SCOPE], ["repository:team/other:pull"]]


def test_the_service_of_a_challenge_stays_one_parameter(fake: FakeRegistry) -> None:
    fake.on(MANIFEST, guarded("Bearer abc", bearer(f"{fake.url}/token", 'service="a&scope=repository:x:push# b"')))
    fake.on("/token", token())
    fetch(plain(fake), fake)
    assert parse_qs(fake.asked("/token")[0].query) == {"service": ["a&scope=repository:x:push# b"], "scope": [SCOPE]}


def test_an_identity_token_is_posted(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.on(MANIFEST, guarded("Bearer abc", bearer(f"{fake.url}/token")))
    fake.on("/token", reply(b'{"access_token":"abc"}'))
    setup = plain(fake, credentials=credentials_for(tmp_path, fake, entry={"identitytoken": "refresh me"}))
    assert fetch(setup, fake) == IMAGE.manifest
    (asked,) = fake.asked("/token")
    assert (asked.method, asked.query) == ("POST", "")
    assert parse_qs(asked.body.decode()) == {
        "grant_type": ["refresh_token"],
        "refresh_token": ["refresh me"],
        "client_id": ["pybuild"],
        "service": ["registry"],
        "scope": [SCOPE],
    }


def test_a_registry_token_is_used_as_it_is(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.on(MANIFEST, guarded("Bearer ready", bearer(f"{fake.url}/token")))
    fetch(plain(fake, credentials=credentials_for(tmp_path, fake, entry={"registrytoken": "ready"})), fake)
    assert fake.asked("/token") == []


def test_bearer_is_preferred_to_basic(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.on(MANIFEST, guarded("Bearer abc", challenge(f'Basic realm="x", Bearer realm="{fake.url}/token"')))
    fake.on("/token", token())
    assert fetch(plain(fake, credentials=credentials_for(tmp_path, fake)), fake) == IMAGE.manifest


BAD_TOKENS: dict[str, tuple[Route, str]] = {
    "refused": (reply(status=401), "access denied"),
    "forbidden": (reply(status=403), "access denied"),
    "missing": (reply(status=404), "gives no token: status 404"),
    "no json": (reply(b"<html>"), "not JSON"),
    "no token": (reply(b"{}"), "access_token: expected a string"),
    "empty": (token(""), "access_token: expected a string"),
    "a number": (reply(b'{"token":5}'), "token: expected a string"),
    "header": (token("a\r\nX-Evil: 1"), "the token has invalid characters"),
    "umlaut": (token("ä"), "the token has invalid characters"),
    "expires never": (token("a", expires_in=1e400), "Infinity is not a number"),
    "expires before": (token("a", expires_in=-1), "expires_in: expected an integer"),
    "twice": (reply(b'{"token":"a","token":"b"}'), "appears twice"),
    "huge": (token("a" * 70_000), "a token of more than 64 KiB"),
}


@pytest.mark.parametrize("case", BAD_TOKENS)
def test_an_invalid_token_is_refused(fake: FakeRegistry, case: str) -> None:
    route, text = BAD_TOKENS[case]
    fake.on(MANIFEST, bearer(f"{fake.url}/token"))
    fake.on("/token", route)
    with pytest.raises(RemoteError, match=text) as caught:
        fetch(plain(fake), fake)
    assert str(caught.value).isprintable()
    assert len(fake.seen) == 2


def test_an_endless_token_is_cut_off(fake: FakeRegistry) -> None:
    def route(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while handler.send(b" " * 65536):
            pass
        handler.close_connection = True

    fake.on(MANIFEST, bearer(f"{fake.url}/token"))
    fake.on("/token", route)
    with pytest.raises(RemoteError, match="a token of more than 64 KiB"):
        fetch(plain(fake), fake)


def test_a_token_that_is_not_accepted_is_renewed_once(fake: FakeRegistry) -> None:
    fake.on(MANIFEST, bearer(f"{fake.url}/token"))
    fake.on("/token", token("one"), token("two"))
    with pytest.raises(Unauthorized):
        fetch(plain(fake), fake)
    assert [seen.path for seen in fake.seen] == [MANIFEST, "/token", MANIFEST]


def test_a_request_to_a_busy_token_server_is_retried(fake: FakeRegistry) -> None:
    fake.on(MANIFEST, guarded("Bearer abc", bearer(f"{fake.url}/token")))
    fake.on("/token", reply(status=503), token())
    setup = plain(fake)
    assert fetch(setup, fake) == IMAGE.manifest
    assert setup.waits == [1.0]


# -- R1: the realm is chosen by the registry

EVIL_REALMS = [
    ("", "invalid characters in a URL"),
    ("file:///etc/passwd", "neither an https nor an http URL"),
    ("ftp://token.test/", "neither an https nor an http URL"),
    ("//token.test/", "neither an https nor an http URL"),
    ("https://me:you@token.test/", "a URL with a user name"),
    ("https://169.254.169.254/latest", "at a private address, 169.254.169.254"),
    ("http://169.254.169.254/latest", "at a private address, 169.254.169.254"),
    ("https://[::]/", r"at a private address, \[::\]"),
    ("https://0.0.0.0/", "at a private address"),
    ("https://10.1.2.3/", "at a private address"),
    ("https://127.0.0.3/", "at a private address"),
    ("https://[::ffff:10.1.2.3]/", "at a private address"),
    ("https://0x0a010203/", "is not a host name"),
    ("https://167838211/", "is not a host name"),
    ("https://token.test\\\\@evil.test/", "invalid characters in a URL"),
]


@pytest.mark.parametrize(("realm", "text"), EVIL_REALMS, ids=[realm for realm, _ in EVIL_REALMS])
@pytest.mark.parametrize("login", [True, False], ids=["login", "anonymous"])
def test_an_invalid_realm_is_not_used(
    fake: FakeRegistry, tmp_path: Path, realm: str, text: str, login: bool
) -> None:
    fake.on(MANIFEST, bearer(realm))
    credentials = credentials_for(tmp_path, fake) if login else Credentials.none()
    with pytest.raises(Unauthorized, match=text) as caught:
        fetch(plain(fake, credentials=credentials), fake)
    assert str(caught.value).isprintable()
    assert len(fake.seen) == 1
    assert_no_secret(fake)


def test_a_realm_without_tls_is_not_used_for_a_registry_with_tls(
    secure: FakeRegistry, fake: FakeRegistry, certificate: Path, tmp_path: Path
) -> None:
    secure.on(MANIFEST, bearer(f"{fake.url}/token"))
    settings = RegistrySettings(ca_files=(str(certificate / "ca.crt"),), token_hosts=(fake.host,))
    with pytest.raises(Unauthorized, match=f"a token server without TLS, {fake.url}"):
        fetch(Setup({secure.host: settings}, credentials=credentials_for(tmp_path, secure)), secure)
    assert fake.seen == []


def test_credentials_go_to_no_other_host_by_default(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.on(MANIFEST, bearer("https://token.example.test/auth"))
    with pytest.raises(Unauthorized, match=r"names token\.example\.test as its token server, which does not") as caught:
        fetch(plain(fake, credentials=credentials_for(tmp_path, fake)), fake)
    assert str(caught.value.hint).startswith('token-hosts = ["token.example.test"]')
    assert_no_secret(fake)


def test_credentials_go_to_another_host_that_the_user_named(
    fake: FakeRegistry, stranger: FakeRegistry, tmp_path: Path
) -> None:
    fake.on(MANIFEST, guarded("Bearer abc", bearer(f"{stranger.url}/token")))
    stranger.on("/token", token())
    setup = plain(fake, credentials=credentials_for(tmp_path, fake))
    setup.registries[fake.host] = RegistrySettings(plain_http=True, token_hosts=(stranger.host,))
    assert fetch(setup, fake) == IMAGE.manifest
    assert stranger.seen[0].authorization == BASIC


def test_docker_hub_has_its_token_server_built_in() -> None:
    (endpoint,) = endpoints(Reference.parse("debian"), Config())
    assert [str(origin) for origin in endpoint.origins] == ["https://registry-1.docker.io"]
    assert endpoint.token_hosts == ("auth.docker.io",)
    assert endpoint.repository == "library/debian"


def test_credentials_do_not_follow_a_redirect_of_the_realm(
    fake: FakeRegistry, stranger: FakeRegistry, tmp_path: Path
) -> None:
    fake.on(MANIFEST, guarded("Bearer abc", bearer(f"{fake.url}/token")))
    fake.on("/token", redirect(f"{stranger.url}/token"))
    stranger.on("/token", token())
    fetch(plain(fake, credentials=credentials_for(tmp_path, fake)), fake)
    assert fake.asked("/token")[0].authorization == BASIC
    assert_no_secret(stranger)


def test_an_identity_token_is_not_posted_to_the_target_of_a_redirect(
    fake: FakeRegistry, stranger: FakeRegistry, tmp_path: Path
) -> None:
    fake.on(MANIFEST, bearer(f"{fake.url}/token"))
    fake.on("/token", redirect(f"{stranger.url}/token"))
    setup = plain(fake, credentials=credentials_for(tmp_path, fake, entry={"identitytoken": "secret"}))
    with pytest.raises(RemoteError, match="redirects a POST, which is not followed"):
        fetch(setup, fake)
    assert stranger.seen == []


# -- R2: redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_authorization_is_sent_to_the_target_of_a_redirect(
    fake: FakeRegistry, stranger: FakeRegistry, tmp_path: Path, status: int
) -> None:
    fake.on(IMAGE.blob_path, guarded(BASIC, challenge('Basic realm="x"')))
    with fake_registry("127.0.0.1") as other_port:
        fake.on(IMAGE.blob_path, challenge('Basic realm="x"'), redirect(f"{other_port.url}/a", status))
        other_port.on("/a", redirect(f"{stranger.url}/b", status))
        stranger.on("/b", redirect(f"{fake.url}/c", status))
        fake.on("/c", reply(IMAGE.layer))
        setup = plain(fake, stranger, other_port, credentials=credentials_for(tmp_path, fake, stranger, other_port))
        with setup.client() as client, io.BytesIO() as file:
            client.blob(IMAGE.reference(fake), IMAGE.blob, file)
        assert_no_secret(stranger, other_port)
        # It stays dropped, because the other server chose the redirect back.
        assert fake.asked("/c")[0].authorization is None


def test_a_challenge_of_the_target_of_a_redirect_is_not_answered(
    fake: FakeRegistry, stranger: FakeRegistry, tmp_path: Path
) -> None:
    fake.on(IMAGE.blob_path, redirect(f"{stranger.url}/b"))
    stranger.on("/b", challenge('Basic realm="x"'))
    setup = plain(fake, stranger, credentials=credentials_for(tmp_path, fake, stranger))
    with setup.client() as client, pytest.raises(RemoteError, match="status 401"):
        client.blob(IMAGE.reference(fake), IMAGE.blob, io.BytesIO())
    assert len(stranger.seen) == 1
    assert_no_secret(fake, stranger)


def test_an_authorization_is_dropped_when_the_scheme_changes(
    secure: FakeRegistry, fake: FakeRegistry, certificate: Path, tmp_path: Path
) -> None:
    """http to https on the same host, with another port, is another origin."""
    fake.on(IMAGE.blob_path, challenge('Basic realm="x"'), redirect(f"{secure.url}/b"))
    secure.on("/b", reply(IMAGE.layer))
    setup = plain(
        fake, credentials=credentials_for(tmp_path, fake, secure), environ={"SSL_CERT_FILE": str(certificate / "ca.crt")}
    )
    with setup.client() as client:
        client.blob(IMAGE.reference(fake), IMAGE.blob, io.BytesIO())
    assert_no_secret(secure)


# -- mirrors


def test_a_mirror_gets_its_own_credentials_only(fake: FakeRegistry, stranger: FakeRegistry, tmp_path: Path) -> None:
    stranger.on(MANIFEST, challenge('Basic realm="x"'))
    fake.on(MANIFEST, guarded(BASIC, challenge('Basic realm="x"')))
    setup = plain(stranger, credentials=credentials_for(tmp_path, fake))
    setup.registries[fake.host] = RegistrySettings(plain_http=True, mirrors=(stranger.host,))
    assert fetch(setup, fake) == IMAGE.manifest
    assert_no_secret(stranger)


# -- what goes wrong on the way


def test_a_slow_token_server_is_an_error(fake: FakeRegistry) -> None:
    fake.on(MANIFEST, bearer(f"{fake.url}/token"))
    fake.on("/token", lambda handler: handler.until_closed())
    with pytest.raises(RemoteError, match=r"sent no complete response within 0.05 s"):
        fetch(plain(fake, limits=RemoteLimits(header_seconds=0.05)), fake)


def test_a_token_server_that_breaks_off_is_an_error(fake: FakeRegistry) -> None:
    fake.on(MANIFEST, bearer(f"{fake.url}/token"))
    fake.on("/token", lambda handler: handler.cut())
    with pytest.raises(Unreachable, match="5 times in a row"):
        fetch(plain(fake), fake)
