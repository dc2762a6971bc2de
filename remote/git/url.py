"""The URLs of git repositories in recipes and on command lines: the repository, the commit, and the directory in it.

    https://HOST/PATH.git[#REF[:SUBDIR]]    also http, on this machine or without a password
    git://HOST/PATH[#…]    ssh://[USER@]HOST/PATH[#…]    USER@HOST:PATH[#…]
    …?ref= tag= branch= subdir= checksum= commit= keep-git-dir= submodules=    instead of the part after #

Source of the forms: https://docs.docker.com/build/concepts/context/#git-repositories. This module only reads text; it
sends no requests.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from pybuild.remote.errors import RemoteError
from pybuild.remote.http.urls import (
    MAX_URL,
    UrlWithLogin,
    address_of,
    basic_authorization,
    is_forbidden,
    is_loopback,
    parse_host,
    printable,
)
from pybuild.values import frozen
from pybuild.values.pattern import pattern
from pybuild.values.redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable

_SCP = pattern(
    r"(?P<user>[A-Za-z0-9_][A-Za-z0-9_-]*)@(?P<host>[\w.-]+):(?P<path>[^#]*)(?:#(?P<fragment>.*))?", re.ASCII
)
_USER = pattern(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
_HASH = pattern(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PREFIX = pattern(r"[0-9a-f]{4,64}")
_BAD_IN_REF = pattern(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")  # git-check-ref-format(1)
_MAX_REF = 1000
_TRUE, _FALSE = frozenset(("", "1", "t", "true")), frozenset(("0", "f", "false"))


@frozen
class RepositorySource:
    """One directory of one commit of a repository.

    `remote` is the URL for git, and can hold a password. `ref` is a branch, a tag, another reference, or a commit by its
    full hash; "" is the server's default branch. `subdir` is a normalized relative path; "" is the whole tree. The hash of
    the commit, or of the tag that points to it, must begin with `checksum`.
    """

    remote: str = field(repr=False)
    scheme: str  # http, https, git or ssh
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_dir: bool = False
    submodules: bool = True
    text: str = field(default="", repr=False, compare=False)  # the URL as the user wrote it

    @property
    def redacted(self) -> str:
        """The URL as the user wrote it, without its password, for messages and the history."""
        return redact(self.text)

    @property
    def includes_git_dir(self) -> bool:
        """Whether the checkout has a `.git`. As in BuildKit, only a whole repository has one, a subdirectory never."""
        return self.keep_git_dir and not self.subdir

    @property
    def redacted_remote(self) -> str:
        """The URL that `.git` names as its origin, without a password."""
        return redact(self.remote)

    @property
    def server(self) -> str:
        """Over http, the server as `scheme://host[:port]`; else ""."""
        return str(UrlWithLogin.parse(self.remote).url.origin) if self.scheme in ("http", "https") else ""

    @property
    def commit(self) -> str | None:
        """The commit, if the URL names it by its full hash."""
        return self.ref if is_hash(self.ref) else None


@frozen
class FoundCommit:
    """The commit that a reference names."""

    commit: str
    ref: str = ""  # the full name of the reference; "" for a commit given by its hash
    tag: str = ""  # the hash of the annotated tag that points to the commit


def is_hash(text: str) -> bool:
    """Whether a text is the full hash of a git object, SHA-1 or SHA-256."""
    return _HASH.fullmatch(text) is not None


def parse_repository(text: str, checksum: str | None = None, *, keep_git_dir: bool = False) -> RepositorySource:
    """Parse the URL of a repository. `checksum` is the value of --checksum. Raises RemoteError without a span."""
    shown = printable(redact(text))
    if len(text) > MAX_URL:
        raise RemoteError(f"a URL of {len(text)} characters exceeds the limit of {MAX_URL}")
    if not text.isprintable():
        raise RemoteError(f"invalid characters in a URL: {shown}")
    remote, scheme, query, fragment = _split(text)
    try:
        options = _UrlOptions.parse(query, fragment)
    except ValueError as error:
        raise RemoteError(f"{shown}: {error}") from None
    if checksum is not None:
        if not _PREFIX.fullmatch(checksum):
            raise RemoteError(f"--checksum: {printable(checksum)!r} is not the beginning of a commit's hash")
        if options.checksum not in ("", checksum):
            raise RemoteError(f"{shown}: its checksum differs from --checksum")
    if options.keep_git_dir is False and keep_git_dir:
        raise RemoteError(f"{shown}: its keep-git-dir contradicts --keep-git-dir")
    return RepositorySource(
        remote,
        scheme,
        options.ref,
        options.subdir,
        checksum or options.checksum,
        keep_git_dir or bool(options.keep_git_dir),
        options.submodules,
        text,
    )


@frozen
class _UrlOptions:
    """The query and the fragment of a URL."""

    ref: str
    subdir: str
    checksum: str
    keep_git_dir: bool | None
    submodules: bool

    @staticmethod
    def parse(query: str, fragment: str) -> _UrlOptions:
        """Read them from the parts of a URL. Raises ValueError."""
        ref, _, subdir = fragment.partition(":")
        found = _parse_query(query)
        ref = _single_value("ref", ref, found.get("ref", ""))
        for name, prefix in (("tag", "refs/tags/"), ("branch", "refs/heads/")):
            if name in found:
                ref = _single_value(name, ref, prefix + found[name].removeprefix(prefix))
        checksum = _single_value("commit", found.get("checksum", ""), found.get("commit", ""))
        if checksum and not _PREFIX.fullmatch(checksum):
            raise ValueError(f"{checksum!r} is not the beginning of a commit's hash")
        ref = ref or checksum
        check_ref(ref)
        subdir = _normal_path(_single_value("subdir", subdir, found.get("subdir", "")))
        keep = _boolean("keep-git-dir", found["keep-git-dir"]) if "keep-git-dir" in found else None
        submodules = _boolean("submodules", found["submodules"]) if "submodules" in found else True
        return _UrlOptions(ref, subdir, checksum, keep, submodules)


def authorization(source: RepositorySource, secret: Callable[[str], bytes | None]) -> str:
    """The Authorization header for git over http, from secrets with BuildKit's names; "" if there is none.

    It is also "" for plain http to another machine, because anyone on the network path could read it. GIT_AUTH_HEADER is
    the value of an Authorization header, GIT_AUTH_TOKEN a token; with a suffix `.HOST` it is a secret for one server.
    Raises RemoteError for a secret with control characters.
    Source: https://docs.docker.com/build/building/secrets/#git-authentication-for-remote-contexts
    """
    if not source.server:
        return ""
    origin = UrlWithLogin.parse(source.remote).url.origin
    if origin.scheme != "https" and not is_loopback(origin.host):
        return ""
    for name in (
        f"GIT_AUTH_HEADER.{origin.authority}",
        f"GIT_AUTH_TOKEN.{origin.authority}",
        "GIT_AUTH_HEADER",
        "GIT_AUTH_TOKEN",
    ):
        value = secret(name)
        if value is not None:
            text = value.decode("utf-8", "replace").strip()
            if not text.isprintable():
                raise RemoteError(f"the secret {name!r} has characters that are invalid in a header")
            return basic_authorization(f"x-access-token:{text}") if name.startswith("GIT_AUTH_TOKEN") else text
    return ""


def resolve_relative(remote: str, url: str) -> str:
    """The URL of a submodule whose `url` in .gitmodules is relative to `remote`, see gitmodules(5). Raises RemoteError."""
    scp = _SCP.fullmatch(remote) if "://" not in remote else None
    start = scp.start("path") if scp is not None else len(remote) - len(urlsplit(remote).path)
    parts = remote[start:].strip("/").split("/")
    slash = "/" if remote[start:].startswith("/") else ""
    for part in url.split("/"):
        if part == "..":
            if not parts:
                raise RemoteError(f"{printable(url)} leads above the root of the server")
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return remote[:start] + slash + "/".join(parts)


def check_ref(ref: str) -> None:
    """Raise ValueError for an invalid name of a branch or tag, such as one that git would read as an option."""
    parts = ref.split("/")
    if ref and (
        ref.startswith("-")
        or ref.endswith(".")
        or len(ref) > _MAX_REF
        or _BAD_IN_REF.search(ref)
        or any(not part or part.startswith(".") or part.endswith(".lock") for part in parts)
    ):
        raise ValueError(f"{printable(ref)!r} is not a valid name of a branch, tag or commit")


def _parse_query(query: str) -> dict[str, str]:
    known = {"ref", "tag", "branch", "subdir", "checksum", "commit", "keep-git-dir", "submodules"}
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise ValueError(f"unknown {name!r} in the query")
        if name in found:
            raise ValueError(f"{name!r} appears twice in the query")
        if not value and name not in ("keep-git-dir", "submodules"):
            raise ValueError(f"{name!r} has no value in the query")
        found[name] = value
    return found


def _single_value(name: str, one: str, other: str) -> str:
    """The value that two parts of the URL give, or the one that is not empty. Raises ValueError if they differ."""
    if one and other and one != other:
        raise ValueError(f"{name} is {other!r}, but another part of the URL says {one!r}")
    return one or other


def _boolean(name: str, value: str) -> bool:
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise ValueError(f"{name}={value}: expected true or false")


def _normal_path(subdir: str) -> str:
    """The path from the root of the repository; `..` cannot leave it."""
    return posixpath.normpath("/" + subdir).lstrip("/")


def _split(text: str) -> tuple[str, str, str, str]:
    """Split a URL into the URL for git, its scheme, the query and the fragment. Raises RemoteError."""
    scp = _SCP.fullmatch(text)
    if "://" not in text and scp is not None:
        path, _, query = scp["path"].partition("?")
        _check_host(scp["host"])
        _check_path(path, text)
        return f"{scp['user']}@{scp['host']}:{path}", "ssh", query, scp["fragment"] or ""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise RemoteError(f"invalid URL: {printable(redact(text))}") from None
    fragment = unquote(parts.fragment)
    remote = parts._replace(query="", fragment="").geturl()
    if parts.scheme in ("http", "https"):
        UrlWithLogin.parse(remote)
        return remote, parts.scheme, parts.query, fragment
    if parts.scheme not in ("git", "ssh"):
        raise RemoteError(f"{printable(redact(text))} is not the URL of a repository")
    host = _check_host(parts.hostname or "")
    if port == 0:
        raise RemoteError(f"port 0 in a URL, for {host}")
    _check_path(parts.path, text)
    if parts.password is not None:
        raise RemoteError(f"a password in a {parts.scheme} URL, for {host}", hint="ssh asks the agent of --ssh")
    if parts.username is not None and (parts.scheme == "git" or not _USER.fullmatch(parts.username)):
        raise RemoteError(f"{printable(parts.username)!r} is not a valid user in a {parts.scheme} URL")
    return remote, parts.scheme, parts.query, fragment


def _check_host(text: str) -> str:
    host = parse_host(text)
    address = address_of(host)
    if address is not None and is_forbidden(address):
        raise RemoteError(f"{host} is an address that pybuild never connects to")
    return host


def _check_path(path: str, text: str) -> None:
    if not path.strip("/") or path.startswith("-") or path.startswith("/-"):
        raise RemoteError(f"{printable(redact(text))} has no path of a repository")
