"""URLs of files and git repositories, as recipes and command lines give them."""

from __future__ import annotations

from pybuild.builder.errors import PlanError
from pybuild.builder.remote_source import UrlSource, is_remote, read_remote
from pybuild.remote.errors import ConfigError, RemoteError
from pybuild.remote.git.checkout import submodule_source
from pybuild.remote.git.url import RepositorySource, authorization, parse_repository
from pybuild.remote.http.proxies import proxy_for
from pybuild.remote.http.urls import Origin, Url, UrlWithLogin
from tests.fuzz.target import FuzzTarget, check_refusal

PARENT = parse_repository("https://git.example/team/app.git")
PASSWORD = "S3cretWord"
PLACES = (Origin("https", "registry.example", 443), Origin("http", "192.0.2.1", 8080), Origin("https", "2001:db8::1", 443))


def read(data: bytes) -> bool:
    """A source is read or refused; what is shown of it has no password, and what goes to git is read again as the same."""
    text = data.decode("utf-8", "surrogateescape")
    _proxies(text)
    _with_password(text)
    for base in ("https://git.example/x/y?z", "http://127.0.0.1:5000/"):
        try:
            joined = Url.parse(base).join(text)
        except RemoteError as error:
            check_refusal(error)
        else:
            assert Url.parse(f"{joined.origin}{joined.target}") == joined
    try:
        source = submodule_source(PARENT, text, "0a" * 20)
        assert source.commit == "0a" * 20
    except RemoteError as error:
        check_refusal(error)
    if not is_remote(text):
        return False
    try:
        found = read_remote(text, None)
    except PlanError as error:
        return check_refusal(error)
    match found:
        case UrlSource(name=name):
            assert name not in ("", ".", "..") and "/" not in name and "\0" not in name
        case RepositorySource():
            _check_repository(found)
    return True


def _check_repository(found: RepositorySource) -> None:
    assert not found.remote.startswith("-") and not found.ref.startswith("-")
    assert ".." not in found.subdir.split("/") and not found.subdir.startswith("/")
    again = parse_repository(found.remote)
    assert (again.remote, again.scheme) == (found.remote, found.scheme)
    assert found.server.startswith(found.scheme) or not found.server
    authorization(found, lambda _: b"token")
    assert found.redacted_remote and found.redacted is not None


def _with_password(text: str) -> None:
    """The text after a user and a password: neither an error nor what is shown has the password."""
    if "@" in text or PASSWORD in text:
        return
    whole = f"https://user:{PASSWORD}@{text}"
    try:
        login = UrlWithLogin.parse(whole)
    except RemoteError as error:
        assert PASSWORD not in f"{error} {error.hint}"
    else:
        assert PASSWORD not in f"{login} {login.url}" and login.authorization
    try:
        source = read_remote(whole, None)
    except PlanError as error:
        assert PASSWORD not in f"{error} {error.hint}"
    else:
        assert PASSWORD not in f"{source} {source.redacted}"


def _proxies(text: str) -> None:
    for origin in PLACES:
        proxy_for(origin, {"no_proxy": text})
        try:
            found = proxy_for(origin, {"https_proxy": text, "HTTP_PROXY": text})
        except ConfigError as error:
            check_refusal(error)
        else:
            assert found is None or found.origin.port


TARGET = FuzzTarget(
    read,
    seeds=(
        b"https://example.org/a/b.tar.gz?x=y#z", b"https://github.com/a/b.git#v1.0:sub/dir", b"git@github.com:a/b.git#main",
        b"ssh://git@host:2222/a/b?tag=v1&subdir=x&keep-git-dir=1", b"git://host/a.git?ref=refs/heads/x&submodules=false",
        b"https://example.org/a.git?branch=b&checksum=0a0a0a0a&commit=0a0a0a0a", b"http://127.0.0.1:8000/%2e%2e/%00",
        b"https://u:p@example.org/x", b"http://[::1]:5000/x.git", b"../other.git", b"./sub", b"http://proxy:3128",
        b"registry.example,.example,*.org,192.0.2.0/24,[2001:db8::1]:443,host:80", b"*", b"https://\xc3\xbc.example/x",
    ),
    words=(
        b"http://", b"https://", b"git://", b"ssh://", b"git@", b".git", b"?ref=", b"?tag=", b"?branch=", b"&subdir=",
        b"&checksum=", b"&commit=", b"keep-git-dir", b"submodules=", b"#", b"..", b"%2f", b"%00", b"%ff", b"[::1]", b"[", b"]", b"@",
        b":0", b":99999", b"169.254.169.254", b"0x7f.1", b"[::ffff:127.0.0.1]", b"%25eth0", b"-", b"\\", b"\xe2\x84\xaa", b"\xc2\xb2",
    ),
    longest=600,
)  # fmt: skip
