"""Parsing the URLs of repositories, without sending requests."""

from __future__ import annotations

import pytest

from pybuild.builder.errors import PlanError
from pybuild.builder.remote_source import UrlSource, is_remote, is_repository, read_remote
from pybuild.builder.sources.contexts import _expand_github, keeps_git_dir
from pybuild.remote.errors import RemoteError
from pybuild.remote.git.url import RepositorySource, authorization, parse_repository, resolve_relative

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "remote", "scheme", "ref", "subdir"),
    [
        ("https://h.test/r.git", "https://h.test/r.git", "https", "", ""),
        ("http://h.test/r.git#v1", "http://h.test/r.git", "http", "v1", ""),
        ("https://h.test/r.git#feature/x:a/b", "https://h.test/r.git", "https", "feature/x", "a/b"),
        ("https://h.test/r.git#:sub", "https://h.test/r.git", "https", "", "sub"),
        ("https://h.test/r.git#main:", "https://h.test/r.git", "https", "main", ""),
        ("https://h.test/r.git#main:/", "https://h.test/r.git", "https", "main", ""),
        ("https://h.test/r.git#main:../../a//b/./c/..", "https://h.test/r.git", "https", "main", "a/b"),
        ("https://h.test/r.git#main:/abs", "https://h.test/r.git", "https", "main", "abs"),
        ("https://h.test/r.git#main:a%20b:c", "https://h.test/r.git", "https", "main", "a b:c"),
        ("https://u:p%40w@h.test/r.git#x", "https://u:p%40w@h.test/r.git", "https", "x", ""),
        ("https://h.test:8443/g/r.git", "https://h.test:8443/g/r.git", "https", "", ""),
        ("git://h.test/r", "git://h.test/r", "git", "", ""),
        ("git://h.test:1234/r#pull/1/head", "git://h.test:1234/r", "git", "pull/1/head", ""),
        ("ssh://git@h.test:22/g/r#x", "ssh://git@h.test:22/g/r", "ssh", "x", ""),
        ("ssh://h.test/r", "ssh://h.test/r", "ssh", "", ""),
        ("git@h.test:g/r.git", "git@h.test:g/r.git", "ssh", "", ""),
        ("git@h.test:g/r.git#x:y", "git@h.test:g/r.git", "ssh", "x", "y"),
        ("deploy-user@h.test:/abs/r", "deploy-user@h.test:/abs/r", "ssh", "", ""),
        (f"https://h.test/r.git#{COMMIT}", "https://h.test/r.git", "https", COMMIT, ""),
        ("https://h.test/r.git?ref=x&subdir=/y", "https://h.test/r.git", "https", "x", "y"),
        ("https://h.test/r.git?tag=v1", "https://h.test/r.git", "https", "refs/tags/v1", ""),
        ("https://h.test/r.git?tag=refs/tags/v1", "https://h.test/r.git", "https", "refs/tags/v1", ""),
        ("https://h.test/r.git?branch=a/b#:y", "https://h.test/r.git", "https", "refs/heads/a/b", "y"),
        (f"https://h.test/r.git?commit={COMMIT}", "https://h.test/r.git", "https", COMMIT, ""),
        ("git@h.test:r?branch=x&submodules=false", "git@h.test:r", "ssh", "refs/heads/x", ""),
        ("ssh://git@h.test/r?ref=x#x", "ssh://git@h.test/r", "ssh", "x", ""),
    ],
)
def test_the_forms_of_repository_urls(text: str, remote: str, scheme: str, ref: str, subdir: str) -> None:
    assert is_remote(text) and is_repository(text)
    found = read_remote(text, None)
    assert isinstance(found, RepositorySource)
    assert (found.remote, found.scheme, found.ref, found.subdir) == (remote, scheme, ref, subdir)
    assert found.commit == (COMMIT if ref == COMMIT else None)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", (False, True, "")),
        ("?keep-git-dir", (True, True, "")),
        ("?keep-git-dir=true&submodules=0", (True, False, "")),
        ("?keep-git-dir=false", (False, True, "")),
        ("?submodules", (False, True, "")),
        ("?checksum=abcd#main", (False, True, "abcd")),
        ("?checksum=abcd&commit=abcd#main", (False, True, "abcd")),
    ],
)
def test_the_query_of_a_repository_url(query: str, expected: tuple[bool, bool, str]) -> None:
    found = parse_repository(f"https://h.test/r.git{query}")
    assert (found.keep_git_dir, found.submodules, found.checksum) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://h.test/r.git#--upload-pack=touch${IFS}x:d", "is not a valid name of a branch"),
        ("https://h.test/r.git#-x", "is not a valid name of a branch"),
        ("https://h.test/r.git#a..b", "is not a valid name of a branch"),
        ("https://h.test/r.git#a b", "is not a valid name of a branch"),
        ("https://h.test/r.git#a%0ab", "is not a valid name of a branch"),
        ("https://h.test/r.git#a/.b", "is not a valid name of a branch"),
        ("https://h.test/r.git#a.lock", "is not a valid name of a branch"),
        ("https://h.test/r.git#a//b", "is not a valid name of a branch"),
        ("https://h.test/r.git#/a", "is not a valid name of a branch"),
        ("https://h.test/r.git#a/", "is not a valid name of a branch"),
        ("https://h.test/r.git#a@{1}", "is not a valid name of a branch"),
        ("https://h.test/r.git#*", "is not a valid name of a branch"),
        ("https://h.test/r.git#" + "a" * 1001, "is not a valid name of a branch"),
        ("https://h.test/r.git?branch=-x", None),
        ("https://h.test/r.git?x=y", "unknown 'x'"),
        ("https://h.test/r.git?ref", "'ref' has no value"),
        ("https://h.test/r.git?ref=a&ref=b", "'ref' appears twice"),
        ("https://h.test/r.git?ref=a#b", "ref is 'a', but another part of the URL says 'b'"),
        ("https://h.test/r.git?branch=a&tag=b", "branch is 'refs/heads/a'"),
        ("https://h.test/r.git?subdir=a#:b", "subdir is 'a'"),
        ("https://h.test/r.git?checksum=xyz", "is not the beginning of a commit's hash"),
        ("https://h.test/r.git?submodules=maybe", "submodules=maybe: expected true or false"),
        ("http://u:p@h.test/r.git", "the password would be sent unencrypted"),
        ("ssh://u:secret@h.test/r", "a password in a ssh URL, for h.test"),
        ("git://u@h.test/r", "is not a valid user"),
        ("ssh://-oProxyCommand=x/r", "is not a host name"),
        ("ssh://-oProxyCommand=x@h.test/r", "is not a valid user"),
        ("ssh://git@h.test/-x", "has no path of a repository"),
        ("ssh://git@h.test/", "has no path of a repository"),
        ("git@h.test:-x", "has no path of a repository"),
        ("git@h.test:", "has no path of a repository"),
        ("git@-x:a", "is not a host name"),
        ("git@127.1:a", "is not a host name"),
        ("git://169.254.169.254/r", "an address that pybuild never connects to"),
        ("git://h.test:0/r", "port 0"),
        ("git://h.test:x/r", "invalid URL"),
        ("git://h.test/a\nb", "invalid characters in a URL"),
        ("https://h.test/" + "r" * 20000 + ".git", "exceeds the limit"),
    ],
)
def test_invalid_repository_urls(text: str, said: str | None) -> None:
    if said is None:
        assert parse_repository(text).ref == "refs/heads/-x", "no option, behind refs/heads/"
        return
    with pytest.raises(RemoteError) as caught:
        parse_repository(text)
    assert said in str(caught.value), caught.value
    assert "secret" not in str(caught.value)


def test_flags_and_url_must_agree() -> None:
    assert parse_repository("git@h.test:r", "abcd", keep_git_dir=True).checksum == "abcd"
    assert parse_repository("git@h.test:r?checksum=abcd", "abcd").checksum == "abcd"
    for text, checksum, keep, said in (
        ("git@h.test:r?checksum=abcd", "abce", False, "its checksum differs from --checksum"),
        ("git@h.test:r", "sha256:" + "0" * 64, False, "is not the beginning of a commit's hash"),
        ("git@h.test:r?keep-git-dir=0", None, True, "its keep-git-dir contradicts --keep-git-dir"),
    ):
        with pytest.raises(RemoteError, match=said):
            parse_repository(text, checksum, keep_git_dir=keep)


def test_only_a_whole_repository_includes_git_dir() -> None:
    assert parse_repository("git@h.test:r", keep_git_dir=True).includes_git_dir
    assert not parse_repository("git@h.test:r#:sub", keep_git_dir=True).includes_git_dir


@pytest.mark.parametrize("text", ["http://[", "https://me:secret@[::1/r.git"])
def test_an_invalid_host_over_http_is_an_error_of_the_plan(text: str) -> None:
    with pytest.raises(PlanError, match="invalid URL") as caught:
        read_remote(text, None)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["https://h.test/r.git/", "https://h.test/r", "https://h.test/r.git.bz2", "http://h.test/?x.git"])
def test_over_http_the_name_decides(text: str) -> None:
    assert is_remote(text) and not is_repository(text)
    assert isinstance(read_remote(text, None), UrlSource)


@pytest.mark.parametrize("text", ["a/b.git", "./git@h:x", "git+https://h.test/r", "file:///r.git", "ext::sh", "github.com/a/b"])
def test_what_is_a_path_for_a_recipe(text: str) -> None:
    assert not is_remote(text)


@pytest.mark.parametrize(
    ("place", "url"),
    [
        ("github.com/a/b", "https://github.com/a/b.git"),
        ("github.com/a/b.git#v1:d", "https://github.com/a/b.git#v1:d"),
        ("github.com/a/b?tag=v1#:d", "https://github.com/a/b.git?tag=v1#:d"),
        ("gitlab.com/a/b", "gitlab.com/a/b"),
        ("/", "/"),
    ],
)
def test_the_short_form_of_contexts(place: str, url: str) -> None:
    assert _expand_github(place) == url


def test_passwords_are_not_shown() -> None:
    found = parse_repository("https://user:s3cret@h.test/r.git#main")
    assert found.redacted == "https://xxxxx:xxxxx@h.test/r.git#main" and found.redacted_remote == "https://xxxxx:xxxxx@h.test/r.git"
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("true", True), ("0", False), ("", False), ("yes", False)])
def test_the_build_argument_of_the_main_context(value: str, expected: bool) -> None:
    assert keeps_git_dir({"BUILDKIT_CONTEXT_KEEP_GIT_DIR": value}) is expected
    assert not keeps_git_dir({})


@pytest.mark.parametrize(
    ("text", "secrets", "expected"),
    [
        ("https://h.test/r.git", {}, ""),
        ("https://h.test/r.git", {"GIT_AUTH_TOKEN": b"t\n"}, "Basic eC1hY2Nlc3MtdG9rZW46dA=="),
        ("https://h.test/r.git", {"GIT_AUTH_TOKEN": b"t", "GIT_AUTH_HEADER": b"Bearer x"}, "Bearer x"),
        ("https://h.test/r.git", {"GIT_AUTH_TOKEN.h.test": b"t", "GIT_AUTH_HEADER": b"x"}, "Basic eC1hY2Nlc3MtdG9rZW46dA=="),
        ("https://h.test:8443/r.git", {"GIT_AUTH_HEADER.h.test": b"x", "GIT_AUTH_HEADER.h.test:8443": b"y"}, "y"),
        ("http://127.0.0.1:80/r.git", {"GIT_AUTH_HEADER": b"x"}, "x"),
        ("http://h.test/r.git", {"GIT_AUTH_HEADER": b"x"}, ""),
        ("git@h.test:r", {"GIT_AUTH_HEADER": b"x"}, ""),
        ("git://h.test/r", {"GIT_AUTH_HEADER": b"x"}, ""),
    ],
)
def test_secrets_become_authorization_headers(text: str, secrets: dict[str, bytes], expected: str) -> None:
    assert authorization(parse_repository(text), secrets.get) == expected


def test_a_secret_of_two_lines_is_refused() -> None:
    with pytest.raises(RemoteError, match="has characters that are invalid in a header"):
        authorization(parse_repository("https://h.test/r.git"), {"GIT_AUTH_HEADER": b"a\r\nb: c"}.get)


@pytest.mark.parametrize(
    ("remote", "url", "expected"),
    [
        ("https://u:p@h.test/g/r.git", "../x.git", "https://u:p@h.test/g/x.git"),
        ("https://h.test/g/r.git", "./x", "https://h.test/g/r.git/x"),
        ("https://h.test/g/r.git", "../../o/x", "https://h.test/o/x"),
        ("git@h.test:g/r.git", "../x", "git@h.test:g/x"),
        ("git@h.test:/g/r.git", "../x", "git@h.test:/g/x"),
        ("ssh://git@h.test:22/g/r/", "../x/./y/../z", "ssh://git@h.test:22/g/x/z"),
        ("https://h.test/r.git", "../../evil.test/x", None),
        ("git@h.test:r", "../..", None),
    ],
)
def test_relative_urls_of_submodules(remote: str, url: str, expected: str | None) -> None:
    if expected is not None:
        assert resolve_relative(remote, url) == expected
        return
    with pytest.raises(RemoteError, match="leads above the root of the server"):
        resolve_relative(remote, url)
