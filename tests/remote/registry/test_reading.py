"""Parsing small texts from servers and the environment: challenges, URLs, NO_PROXY."""

from __future__ import annotations

import base64
import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.remote.errors import RemoteError
from pybuild.remote.http.proxies import proxy_for
from pybuild.remote.http.urls import Origin, Url, UrlWithLogin, is_private
from pybuild.remote.registry.challenges import Challenge, parse_challenges

# -- WWW-Authenticate


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (['Basic realm="x"'], [Challenge("basic", {"realm": "x"})]),
        (["BASIC Realm=x"], [Challenge("basic", {"realm": "x"})]),
        (["Basic"], [Challenge("basic")]),
        (
            ['Bearer realm="https://a.test/t",service="s",scope="repository:a/b:pull,push"'],
            [Challenge("bearer", {"realm": "https://a.test/t", "service": "s", "scope": "repository:a/b:pull,push"})],
        ),
        (['Bearer realm = "a" , service = b'], [Challenge("bearer", {"realm": "a", "service": "b"})]),
        (['Basic realm="a", Bearer realm="b"'], [Challenge("basic", {"realm": "a"}), Challenge("bearer", {"realm": "b"})]),
        (['Basic realm="a"', 'Bearer realm="b"'], [Challenge("basic", {"realm": "a"}), Challenge("bearer", {"realm": "b"})]),
        (["Negotiate, Basic"], [Challenge("negotiate"), Challenge("basic")]),
        (["Negotiate dG9rZW4=, Basic realm=a"], [Challenge("negotiate"), Challenge("basic", {"realm": "a"})]),
        ([r'Basic realm="a\"b\\c"'], [Challenge("basic", {"realm": r'a"b\c'})]),
        (['Basic realm="a, Bearer realm=b"'], [Challenge("basic", {"realm": "a, Bearer realm=b"})]),
        (['Basic realm="first",realm="second"'], [Challenge("basic", {"realm": "first"})]),
        (['Basic realm=""'], [Challenge("basic", {"realm": ""})]),
        ([",, Basic ,, realm=a,"], [Challenge("basic", {"realm": "a"})]),
        ([""], []),
        (["realm=a"], []),
        (['Basic realm="open'], [Challenge("basic")]),
        (['Bearer realm="a" service="b"'], [Challenge("bearer")]),
        (["é"], []),
        (["Basic " + "x" * 20_000], []),
    ],
)  # fmt: skip
def test_challenges_are_read(headers: list[str], expected: list[Challenge]) -> None:
    assert list(parse_challenges(headers)) == expected


@settings(max_examples=300)
@given(st.lists(st.text(alphabet=st.sampled_from('ab,= "\\\t=/-é\r\n'), max_size=60), max_size=3))
def test_any_header_can_be_parsed(headers: list[str]) -> None:
    for challenge in parse_challenges(headers):
        assert challenge.scheme


@settings(max_examples=200)
@given(st.dictionaries(st.from_regex("[a-z]{1,8}", fullmatch=True), st.text("a ,=\"\\'é:/", max_size=20), max_size=4))
def test_a_quoted_parameter_survives_parsing(parameters: dict[str, str]) -> None:
    quoted = ",".join(f'{name}="{_escaped(value)}"' for name, value in parameters.items())
    assert list(parse_challenges([f"Bearer {quoted}"])) == [Challenge("bearer", parameters)]


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


# -- URLs


@settings(max_examples=300)
@given(st.text(alphabet=st.sampled_from("htps:/@[]?#.%0123456789abcx-_\\ \r\né"), max_size=40))
def test_any_location_is_a_url_or_a_remote_error(text: str) -> None:
    base = Url.parse("https://registry.test:5000/v2/a/manifests/b?c=d")
    try:
        found = base.join(text)
    except RemoteError as error:
        assert str(error).isprintable()
        return
    sent = f"{found.origin}{found.target}"
    assert Url.parse(sent) == found
    assert not set(sent) & set(" \r\n\\")
    assert "@" not in found.origin.authority


@pytest.mark.parametrize(
    ("text", "origin", "target"),
    [
        ("https://Registry.TEST", Origin("https", "registry.test", 443), "/"),
        ("http://registry.test:80/a?b#c", Origin("http", "registry.test", 80), "/a?b"),
        ("https://[2001:DB8:0::1]:5000/x", Origin("https", "2001:db8::1", 5000), "/x"),
        ("https://a_b.test/x", Origin("https", "a_b.test", 443), "/x"),
        ("https://xn--bcher-kva.test/%20", Origin("https", "xn--bcher-kva.test", 443), "/%20"),
    ],
)
def test_urls_are_read(text: str, origin: Origin, target: str) -> None:
    assert Url.parse(text) == Url(origin, target)


def test_a_login_can_hold_any_bytes() -> None:
    found = UrlWithLogin.parse("https://us%ffer:p\udcffw@a.test/")
    assert found.authorization == "Basic " + base64.b64encode(b"us\xffer:p\xffw").decode()


@pytest.mark.parametrize("host", ["[", "[::1", "a]"])
def test_a_url_with_an_invalid_host_is_refused_without_its_password(host: str) -> None:
    with pytest.raises(RemoteError, match="invalid URL") as caught:
        UrlWithLogin.parse(f"https://me:secret@{host}")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("origin", "text"),
    [
        (Origin("https", "a.test", 443), "https://a.test"),
        (Origin("https", "a.test", 80), "https://a.test:80"),
        (Origin("http", "::1", 5000), "http://[::1]:5000"),
    ],
)
def test_origins_are_written(origin: Origin, text: str) -> None:
    assert str(origin) == text


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1", "127.0.0.1", "169.254.169.254", "192.168.0.1", "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255",
        "240.0.0.1", "::", "::1", "fe80::1", "fd00::1", "ff02::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
    ],
)  # fmt: skip
def test_private_addresses(address: str) -> None:
    assert is_private(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_public_addresses(address: str) -> None:
    assert not is_private(ipaddress.ip_address(address))


# -- proxies

PROXY = "http://proxy.test:3128"


@pytest.mark.parametrize(
    ("url", "environ", "expected"),
    [
        ("https://a.test", {}, None),
        ("https://a.test", {"HTTPS_PROXY": PROXY}, PROXY),
        ("https://a.test", {"https_proxy": PROXY, "HTTPS_PROXY": "http://other.test"}, PROXY),
        ("https://a.test", {"http_proxy": PROXY}, None),
        ("http://a.test", {"http_proxy": PROXY}, PROXY),
        ("http://a.test", {"all_proxy": PROXY}, PROXY),
        ("https://a.test", {"https_proxy": "proxy.test:3128"}, PROXY),
        ("https://a.test", {"https_proxy": "https://proxy.test"}, "https://proxy.test"),
        ("https://a.test", {"https_proxy": ""}, None),
        ("http://localhost:5000", {"http_proxy": PROXY}, None),
        ("http://127.0.0.1:5000", {"http_proxy": PROXY}, None),
        ("http://[::1]", {"http_proxy": PROXY}, None),
    ],
)
def test_the_proxy_is_that_of_the_scheme(url: str, environ: dict[str, str], expected: str | None) -> None:
    proxy = proxy_for(Url.parse(url).origin, environ)
    assert (None if proxy is None else str(proxy.origin)) == expected


@pytest.mark.parametrize(
    ("no_proxy", "url", "exempt"),
    [
        ("*", "https://a.test", True),
        ("a.test", "https://a.test", True),
        ("a.test", "https://sub.a.test", True),
        ("a.test", "https://ba.test", False),
        ("a.test", "https://a.test.evil", False),
        (".a.test", "https://sub.a.test", True),
        (".a.test", "https://a.test", False),
        ("*.a.test", "https://sub.a.test", True),
        ("A.Test", "https://a.test", True),
        ("x.test, a.test", "https://a.test", True),
        ("a.test:5000", "https://a.test:5000", True),
        ("a.test:5000", "https://a.test", False),
        ("10.0.0.1", "https://10.0.0.1", True),
        ("10.0.0.0/8", "https://10.1.2.3:5000", True),
        ("10.0.0.0/8", "https://11.1.2.3", False),
        ("10.0.0.0/8", "https://a.test", False),
        ("nonsense/8", "https://10.1.2.3", False),
        ("2001:db8::/32", "https://[2001:db8::1]", True),
        ("2001:db8::1", "https://[2001:db8::1]", True),
        ("[2001:db8::1]:5000", "https://[2001:db8::1]:5000", True),
        ("0.0.1", "https://10.0.0.1", False),
        ("", "https://a.test", False),
        (",,", "https://a.test", False),
        ("a.test:\u00b2", "https://a.test", False),
        (f"a.test:{'4' * 5000}", "https://a.test", False),
    ],
)
def test_no_proxy_is_read_as_go_reads_it(no_proxy: str, url: str, exempt: bool) -> None:
    environ = {"https_proxy": PROXY, "NO_PROXY": no_proxy}
    assert (proxy_for(Url.parse(url).origin, environ) is None) is exempt


@pytest.mark.parametrize("text", ["socks5://proxy.test", "http://me:secret@", "http://me:secret@a b", "http://x:99999"])
def test_an_invalid_proxy_is_named_by_its_variable(text: str) -> None:
    with pytest.raises(RemoteError, match="HTTPS_PROXY") as caught:
        proxy_for(Origin("https", "a.test", 443), {"https_proxy": text})
    assert "secret" not in str(caught.value)
