"""Redirects, deadlines, busy servers, certificates and proxies."""

from __future__ import annotations

import datetime
import email.utils
import io
import shutil
import ssl
from typing import TYPE_CHECKING

import pytest

from pybuild.remote.errors import RemoteError, TooSlow, Unreachable
from pybuild.remote.http import trust
from pybuild.remote.http.site import RemoteLimits, Site
from pybuild.remote.http.trust import bare_context, system_context, tls_context
from pybuild.remote.http.urls import Origin, is_private
from pybuild.remote.registry.config import RegistrySettings
from pybuild.store.formats.reference import Reference
from tests.support.fake_registry import LINUX, FakeRegistry, Image, Setup, fake_registry, plain, redirect, reply
from tests.support.registry import make_certificate

if TYPE_CHECKING:
    from pathlib import Path

    from pybuild.remote.http.urls import Address
    from tests.support.fake_registry import Handler, Route

IMAGE = Image()
MANIFEST = IMAGE.path("manifests", "1")


def fetch(setup: Setup, fake: FakeRegistry) -> bytes:
    with setup.client() as client:
        return client.manifest(IMAGE.reference(fake), LINUX).data


def blob(setup: Setup, fake: FakeRegistry) -> bytes:
    with setup.client() as client, io.BytesIO() as file:
        client.blob(IMAGE.reference(fake), IMAGE.blob, file)
        return file.getvalue()


def private_only(address: str) -> dict[str, object]:
    """Options that make only this address private: every address that a test can listen on is loopback."""

    def private(found: Address) -> bool:
        return str(found) == address

    return {"private": private}


def trusting(certificate: Path, *fakes: FakeRegistry) -> Setup:
    return Setup({fake.host: RegistrySettings(ca_files=(str(certificate / "ca.crt"),)) for fake in fakes})


# -- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_blob_redirect_is_followed(fake: FakeRegistry, stranger: FakeRegistry, status: int) -> None:
    fake.on(IMAGE.blob_path, redirect(f"{stranger.url}/data?signature=x", status))
    stranger.on("/data", reply(IMAGE.layer))
    assert blob(plain(fake), fake) == IMAGE.layer
    assert stranger.seen[0].query == "signature=x"


@pytest.mark.parametrize(
    "location", ["/elsewhere", "../../../../elsewhere", "//{host}/elsewhere", "http://{host}/elsewhere"]
)
def test_a_location_is_read_relative_to_the_request(fake: FakeRegistry, location: str) -> None:
    fake.on(IMAGE.blob_path, redirect(location.format(host=fake.host)))
    fake.on("/elsewhere", reply(IMAGE.layer))
    assert blob(plain(fake), fake) == IMAGE.layer


def test_a_resumption_follows_the_redirect_again(fake: FakeRegistry, stranger: FakeRegistry) -> None:
    size = len(IMAGE.layer)
    fake.on(IMAGE.blob_path, redirect(f"{stranger.url}/data"))
    rest = reply(IMAGE.layer[100:], 206, {"Content-Range": f"bytes 100-{size - 1}/{size}"})
    stranger.on("/data", reply(IMAGE.layer[:100], length=size), rest)
    assert blob(plain(fake), fake) == IMAGE.layer
    assert [seen.headers.get("range") for seen in stranger.seen] == [None, "bytes=100-"]


def test_ten_redirects_are_followed_and_no_more(fake: FakeRegistry) -> None:
    for step in range(1, 11):
        fake.on(f"/{step}", redirect(f"/{step + 1}"))
    fake.on(IMAGE.blob_path, redirect("/2"))
    fake.on("/11", reply(IMAGE.layer))
    assert blob(plain(fake), fake) == IMAGE.layer
    fake.on(IMAGE.blob_path, redirect("/1"))
    with pytest.raises(RemoteError, match="redirects more often than the limit of 10"):
        blob(plain(fake), fake)


def test_a_redirect_to_itself_ends(fake: FakeRegistry) -> None:
    fake.on(IMAGE.blob_path, redirect(IMAGE.blob_path))
    with pytest.raises(RemoteError, match="redirects more often"):
        blob(plain(fake), fake)
    assert len(fake.seen) == 11


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("file:///etc/passwd", "neither an https nor an http URL"),
        ("ftp://registry.test/x", "neither an https nor an http URL"),
        ("data:text/plain,x", "neither an https nor an http URL"),
        ("gopher://registry.test/", "neither an https nor an http URL"),
        ("http://user:secret@127.0.0.2/", "a URL with a user name, for 127.0.0.2"),
        ("https:///x", "is not a host name"),
        ("http://127.0.0.1:0/", "port 0"),
        ("http://127.0.0.1:99999/", "invalid URL"),
        ("http://0x7f.1/", "is not a host name"),
        ("http://2130706433/", "is not a host name"),
        ("http://127.1/", "is not a host name"),
        ("http://[fe80::1%25eth0]/", "is not a host name|an address with a zone"),
        ("http://[::1/", "invalid URL"),
        ("http://a_b..test/", "is not a host name"),
        ("http://127.0.0.1/\\@evil.test/", "invalid characters in a URL"),
        ("http://127.0.0.1/\xe9", "invalid characters in a URL"),
        ("http://127.0.0.1/a b", "invalid characters in a URL"),
        ("/" + "x" * 20_000, "exceeds the limit of 16384"),
        ("http://169.254.169.254/latest/meta-data", "an address that pybuild never connects to"),
        ("http://[::ffff:169.254.169.254]/", "an address that pybuild never connects to"),
        ("http://0.0.0.0/", "an address that pybuild never connects to"),
        ("http://[::]/", "an address that pybuild never connects to"),
        ("http://224.0.0.1/", "an address that pybuild never connects to"),
    ],
)
def test_a_redirect_to_an_invalid_url_is_not_followed(fake: FakeRegistry, location: str, text: str) -> None:
    fake.on(IMAGE.blob_path, redirect(location))
    with pytest.raises(RemoteError, match=text) as caught:
        blob(plain(fake), fake)
    assert str(caught.value).isprintable()
    assert "secret" not in str(caught.value)
    assert len(fake.seen) == 1


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.2", "100.64.0.1", "[::1]", "[fd00::1]", "[64:ff9b::10.0.0.1]", "[2002:a00:1::]"]
)  # fmt: skip
def test_a_public_registry_cannot_lead_to_a_private_address(fake: FakeRegistry, address: str) -> None:
    def private(found: Address) -> bool:
        return str(found) != "127.0.0.1" and is_private(found)

    fake.on(IMAGE.blob_path, redirect(f"http://{address}:1/"))
    with pytest.raises(RemoteError, match="a private address, which is not followed"):
        blob(plain(fake, options={"private": private}), fake)


def test_a_name_that_resolves_to_a_private_address_is_refused_on_connection(
    fake: FakeRegistry, stranger: FakeRegistry
) -> None:
    """`localhost` stands for any name that resolves to a private address."""
    with fake_registry("127.0.0.1") as inner:
        port = inner.host.partition(":")[2]
        stranger.on(IMAGE.blob_path, redirect(f"http://localhost:{port}/secret"))
        inner.on("/secret", reply(IMAGE.layer))
        with pytest.raises(RemoteError, match=f"localhost:{port}, a private address"):
            blob(plain(stranger, options=private_only("127.0.0.1")), stranger)
        assert inner.seen == []
        # A private registry can redirect there.
        assert blob(plain(stranger), stranger) == IMAGE.layer


def test_a_redirect_from_https_to_http_is_not_followed(secure: FakeRegistry, fake: FakeRegistry, certificate: Path) -> None:
    secure.on(IMAGE.blob_path, redirect(f"{fake.url}/x"))
    with pytest.raises(RemoteError, match=r"redirects from https to http://127.0.0.1:"):
        blob(trusting(certificate, secure), secure)
    assert fake.seen == []


def test_messages_leave_out_the_query_of_a_redirect(fake: FakeRegistry, stranger: FakeRegistry) -> None:
    fake.on(IMAGE.blob_path, redirect(f"{stranger.url}/x?token=secret"))
    stranger.on("/x", reply(status=500))
    setup = plain(fake)
    with pytest.raises(Unreachable, match=f"from {stranger.url}: status 500") as caught:
        blob(setup, fake)
    assert "secret" not in f"{caught.value} {caught.value.hint}"


# -- time


def silent(handler: Handler) -> None:
    handler.until_closed()


def half_a_header(handler: Handler) -> None:
    handler.send(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    handler.until_closed()


def continue_for_ever(handler: Handler) -> None:
    while handler.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 10):
        pass
    handler.close_connection = True


@pytest.mark.parametrize("route", [silent, half_a_header])
def test_headers_have_a_deadline(fake: FakeRegistry, route: Route) -> None:
    fake.on(MANIFEST, route)
    with pytest.raises(TooSlow, match=r"sent no complete response within 0.05 s"):
        fetch(plain(fake, limits=RemoteLimits(header_seconds=0.05)), fake)
    fake.await_requests(2)
    assert len(fake.seen) == 2


def test_endless_headers_are_cut_off(fake: FakeRegistry) -> None:
    fake.on(MANIFEST, continue_for_ever)
    with pytest.raises(RemoteError, match="sends more bytes than the limit"):
        fetch(plain(fake), fake)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200,
        b"HTTP/1.1 200 " + b"x" * 70_000,
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000,
    ],
    ids=["nothing", "zeros", "ssh", "status", "many headers", "long status", "long header"],
)
def test_what_is_not_http_is_an_error_after_five_tries(fake: FakeRegistry, data: bytes) -> None:
    def route(handler: Handler) -> None:
        handler.send(data)
        handler.cut()

    fake.on(MANIFEST, route)
    with pytest.raises(Unreachable, match="5 times in a row") as caught:
        fetch(plain(fake), fake)
    assert str(caught.value).isprintable()
    assert len(fake.seen) == 5


# -- busy servers


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_request_to_a_busy_server_is_retried(fake: FakeRegistry, status: int) -> None:
    IMAGE.serve(fake)
    fake.paths[MANIFEST].insert(0, reply(status=status))
    fake.paths[MANIFEST].insert(0, reply(status=status))
    setup = plain(fake)
    assert fetch(setup, fake) == IMAGE.manifest
    assert setup.waits == [1.0, 2.0]


@pytest.mark.parametrize(("text", "waits"), [("7", [7.0]), ("0", [0.0]), ("soon", [1.0]), ("-3", [1.0]), ("", [1.0]), (f"Mon, 01 Jan 2024 00:00:00 +{'9' * 16}", [1.0])])
def test_retry_after_in_seconds_is_followed(fake: FakeRegistry, text: str, waits: list[float]) -> None:
    IMAGE.serve(fake)
    fake.paths[MANIFEST].insert(0, reply(status=429, headers={"Retry-After": text}))
    setup = plain(fake)
    assert fetch(setup, fake) == IMAGE.manifest
    assert setup.waits == waits


def test_retry_after_as_a_date_is_followed(fake: FakeRegistry) -> None:
    IMAGE.serve(fake)
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=30)
    date = email.utils.format_datetime(moment, usegmt=True)
    past = "Thu, 01 Jan 1970 00:00:00 GMT"
    for text in (date, past):
        fake.paths[MANIFEST].insert(0, reply(status=503, headers={"Retry-After": text}))
    setup = plain(fake)
    assert fetch(setup, fake) == IMAGE.manifest
    first, second = setup.waits
    assert first == 0.0
    assert 0 < second <= 30


def test_a_retry_after_beyond_the_limit_is_an_error(fake: FakeRegistry) -> None:
    fake.on(MANIFEST, reply(b'{"errors":[{"message":"pull rate"}]}', 429, {"Retry-After": "21600"}))
    setup = plain(fake)
    with pytest.raises(Unreachable, match="pull rate: it asks to retry after 21600 s, more than the limit of 60 s"):
        fetch(setup, fake)
    assert setup.waits == []


def test_a_busy_server_is_given_up_after_five_tries(fake: FakeRegistry) -> None:
    fake.on(MANIFEST, reply(status=503))
    with pytest.raises(Unreachable, match="status 503 for manifest 1, 5 times in a row"):
        fetch(plain(fake), fake)
    assert len(fake.seen) == 5


def test_an_error_without_end_is_cut_off(fake: FakeRegistry) -> None:
    def route(handler: Handler) -> None:
        handler.send_response(400)
        handler.end_headers()
        while handler.send(b"x" * 65536):
            pass
        handler.close_connection = True

    fake.on(MANIFEST, route)
    with pytest.raises(RemoteError, match="status 400"):
        fetch(plain(fake), fake)


# -- TLS


def test_a_registry_on_loopback_is_tried_with_tls_and_then_without(fake: FakeRegistry) -> None:
    IMAGE.serve(fake)
    assert fetch(Setup(), fake) == IMAGE.manifest


@pytest.fixture
def contexts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of contexts for which the system's authorities are read, in a process that has read none."""
    made = []
    default = ssl.create_default_context

    def create(*arguments: object, **options: object) -> ssl.SSLContext:
        made.append("system")
        return default(*arguments, **options)  # type: ignore[arg-type]

    trust._tls_context.cache_clear()
    trust._system_context.cache_clear()
    monkeypatch.setattr(ssl, "create_default_context", create)
    return made


def test_certificates_are_read_only_for_tls(fake: FakeRegistry, contexts: list[str]) -> None:
    IMAGE.serve(fake)
    assert fetch(Setup(), fake) == IMAGE.manifest  # found out by a handshake
    assert fetch(Setup(options={"tls_verify": False}), fake) == IMAGE.manifest
    assert contexts == []


def test_certificates_are_read_once_for_all_sites_of_a_process(
    secure: FakeRegistry, certificate: Path, contexts: list[str]
) -> None:
    IMAGE.serve(secure)
    setup = Setup(environ={"SSL_CERT_FILE": str(certificate / "ca.crt")})
    with fake_registry("127.0.0.2", certificate) as other:
        IMAGE.serve(other)
        for registry in (secure, other, secure):
            assert fetch(setup, registry) == IMAGE.manifest
    assert contexts == ["system"]


def test_certificates_are_not_read_to_verify_nothing(secure: FakeRegistry, contexts: list[str]) -> None:
    IMAGE.serve(secure)
    assert fetch(Setup(options={"tls_verify": False}), secure) == IMAGE.manifest
    assert contexts == []


@pytest.mark.parametrize("verify", [True, False])
def test_old_versions_of_tls_are_refused(*, verify: bool) -> None:
    site = Site("127.0.0.1:5", (Origin("https", "127.0.0.1", 5),), verify)
    for context in (tls_context(site, {}), system_context({}), bare_context()):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_configured_authority_is_trusted(
    secure: FakeRegistry, certificate: Path
) -> None:
    IMAGE.serve(secure)
    assert fetch(trusting(certificate, secure), secure) == IMAGE.manifest


def test_a_private_authority_needs_no_key_usage_extension() -> None:
    """Those of the tests above have none. Pythons differ in their default, so this looks at the flag itself."""
    assert not system_context({}).verify_flags & ssl.VERIFY_X509_STRICT


def test_the_directories_of_docker_and_podman_are_read(secure: FakeRegistry, certificate: Path, tmp_path: Path) -> None:
    IMAGE.serve(secure)
    directory = tmp_path / "containers/certs.d" / secure.host
    directory.mkdir(parents=True)
    (directory / "own.crt").write_bytes((certificate / "ca.crt").read_bytes())
    assert fetch(Setup(environ={"XDG_CONFIG_HOME": str(tmp_path)}), secure) == IMAGE.manifest
    shutil.copytree(tmp_path / "containers", tmp_path / "other/containers")
    (tmp_path / "other/containers/certs.d" / secure.host / "own.crt").write_text("nonsense")
    with pytest.raises(RemoteError, match=r"own.crt: no certificates in PEM form"):
        fetch(Setup(environ={"XDG_CONFIG_HOME": str(tmp_path / "other")}), secure)


def test_the_variables_of_openssl_count(secure: FakeRegistry, certificate: Path) -> None:
    IMAGE.serve(secure)
    assert fetch(Setup(environ={"SSL_CERT_FILE": str(certificate / "ca.crt")}), secure) == IMAGE.manifest


def test_an_untrusted_certificate_is_refused_and_nothing_is_sent(secure: FakeRegistry) -> None:
    with pytest.raises(Unreachable, match="its certificate is not trusted") as caught:
        fetch(Setup(), secure)
    assert "ca-files" in str(caught.value.hint)
    assert secure.seen == []


def test_without_verification_any_certificate_is_accepted(secure: FakeRegistry, recwarn: pytest.WarningsRecorder) -> None:
    IMAGE.serve(secure)
    assert fetch(Setup(options={"tls_verify": False}), secure) == IMAGE.manifest
    assert fetch(Setup({secure.host: RegistrySettings(tls_verify=False)}), secure) == IMAGE.manifest
    assert list(recwarn) == []


@pytest.mark.parametrize(("names", "days"), [("DNS:other.test", 2), ("IP:127.0.0.1", 0)], ids=["other name", "expired"])
def test_a_certificate_must_be_for_the_registry_and_valid(tmp_path: Path, names: str, days: int) -> None:
    make_certificate(tmp_path, names, days)
    with fake_registry(certificate=tmp_path) as fake:
        with pytest.raises(
            Unreachable, match=r"its certificate is not trusted: (IP address mismatch|certificate has expired)"
        ):
            fetch(trusting(tmp_path, fake), fake)
        assert fake.seen == []


def test_a_refused_connection_is_an_error(fake: FakeRegistry) -> None:
    with fake_registry() as gone:
        pass
    setup = Setup()
    with pytest.raises(Unreachable, match=f"{gone.host}: no connection: Connection refused"):
        fetch(setup, gone)
    assert setup.waits == []


def test_a_name_that_does_not_resolve_is_an_error() -> None:
    setup = Setup()
    with setup.client() as client, pytest.raises(Unreachable, match=r"registry.invalid: the name cannot be resolved"):
        client.manifest(Reference.parse("registry.invalid/team/app"), LINUX)


# -- proxies


def behind_proxy(proxy: FakeRegistry, *fakes: FakeRegistry, **environ: str) -> Setup:
    """127.0.0.1 never uses a proxy, so the registry gets a name that only the proxy resolves."""
    return Setup(
        {"registry.test": RegistrySettings(plain_http=True)},
        environ={"http_proxy": f"http://me:s%40crt@{proxy.host}", **environ},
    )


def ask(setup: Setup, name: str = "registry.test/team/app:1") -> bytes:
    with setup.client() as client:
        return client.manifest(Reference.parse(name), LINUX).data


def test_a_proxy_of_the_environment_is_used_and_only_the_proxy_gets_its_password(fake: FakeRegistry) -> None:
    fake.on(f"http://registry.test{MANIFEST}", reply(IMAGE.manifest))
    assert ask(behind_proxy(fake)) == IMAGE.manifest
    (seen,) = fake.seen
    assert seen.headers["proxy-authorization"] == "Basic bWU6c0BjcnQ="
    assert seen.authorization is None


def test_an_https_proxy_is_a_tunnel_and_the_registry_never_sees_the_proxys_password(fake: FakeRegistry) -> None:
    connects: list[dict[str, str]] = []

    def tunnel(handler: Handler) -> None:
        connects.append({name.lower(): value for name, value in handler.headers.items()})
        handler.send(b"HTTP/1.1 200 OK\r\n\r\n")
        handler.cut()

    fake.on("registry.test:443", tunnel)
    setup = Setup(environ={"HTTPS_PROXY": f"me:secret@{fake.host}"}, limits=RemoteLimits(retries=1))
    with pytest.raises(Unreachable) as caught:
        ask(setup)
    assert connects[0]["proxy-authorization"].startswith("Basic ")
    assert "secret" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_proxy_that_refuses_is_named_as_such(fake: FakeRegistry, status: int) -> None:
    fake.on("registry.test:443", reply(status=status))
    with pytest.raises(Unreachable, match=r"registry.test: the proxy failed: Tunnel connection failed"):
        ask(Setup(environ={"https_proxy": fake.url}))


def test_addresses_in_urls_are_checked_behind_a_proxy_too(fake: FakeRegistry) -> None:
    fake.on(f"http://registry.test{MANIFEST}", redirect("http://10.0.0.1/"))
    with pytest.raises(RemoteError, match=r"registry.test redirects to 10.0.0.1, a private address"):
        ask(behind_proxy(fake))


def test_hosts_in_no_proxy_are_reached_directly(fake: FakeRegistry) -> None:
    with pytest.raises(Unreachable, match="the name cannot be resolved"):
        ask(behind_proxy(fake, no_proxy="registry.test"))
    assert fake.seen == []
