"""Git repositories as recipes and command lines name them: where one is, which commit is meant, and what of it.

    https://HOST/PATH.git[#REF[:SUBDIR]]    also http, on this machine or without a password
    git://HOST/PATH[#…]    ssh://[USER@]HOST/PATH[#…]    USER@HOST:PATH[#…]
    …?ref= tag= branch= subdir= checksum= commit= keep-git-dir= submodules=    instead of what stands behind #

Source of the forms: https://docs.docker.com/build/concepts/context/#git-repositories. Nothing here asks anybody.
"""

from __future__ import annotations

import base64
import posixpath
import re
from dataclasses import field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from pybuild.remote.errors import RemoteError
from pybuild.remote.http.urls import MAX_URL, Location, address_of, is_loopback, is_nobodys, parse_host, printable
from pybuild.values import frozen
from pybuild.values.redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable

_SCP = re.compile(
    r"(?P<user>[A-Za-z0-9_][A-Za-z0-9_-]*)@(?P<host>[\w.-]+):(?P<path>[^#]*)(?:#(?P<fragment>.*))?", re.ASCII
)
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PREFIX = re.compile(r"[0-9a-f]{4,64}")
_BAD_IN_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")  # git-check-ref-format(1)
_MAX_REF = 1000
_TRUE, _FALSE = frozenset(("", "1", "t", "true")), frozenset(("0", "f", "false"))


@frozen
class RepositorySource:
    """A directory of one commit of a repository.

    `remote` is what git gets, and may hold a password. `ref` is a branch, a tag, another reference, or a commit by its full
    hash; "" is the branch that the server calls its own. `subdir` is relative and clean, "" is all. The commit, or the tag
    that leads to it, has to begin with `checksum`.
    """

    remote: str = field(repr=False)
    scheme: str  # http, https, git or ssh
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_dir: bool = False
    submodules: bool = True
    text: str = field(default="", repr=False, compare=False)  # as it was written

    @property
    def shown(self) -> str:
        """What messages and the history call it."""
        return redact(self.text)

    @property
    def keeps_git_dir(self) -> bool:
        """Whether `.git` comes along: that of a whole repository, as in BuildKit, never that of a directory in it."""
        return self.keep_git_dir and not self.subdir

    @property
    def origin(self) -> str:
        """What `.git` may tell of where it came from."""
        return redact(self.remote)

    @property
    def server(self) -> str:
        """Over http, where it is, without a path; else ""."""
        return str(Location.parse(self.remote).url.origin) if self.scheme in ("http", "https") else ""

    @property
    def commit(self) -> str | None:
        """The commit, where the words alone tell it."""
        return self.ref if is_hash(self.ref) else None


@frozen
class FoundCommit:
    """What a reference is: the commit, its full name ("" where it was given as a commit), and the tag that leads to it."""

    commit: str
    ref: str = ""
    tag: str = ""


def is_hash(text: str) -> bool:
    """Whether a text is the full name of an object, by SHA-1 or SHA-256."""
    return _HASH.fullmatch(text) is not None


def read_repository(text: str, checksum: str | None = None, *, keep_git_dir: bool = False) -> RepositorySource:
    """Read the name of a repository. `checksum` is what --checksum says. Raises RemoteError, without a place."""
    shown = printable(redact(text))
    if len(text) > MAX_URL:
        raise RemoteError(f"a URL of {len(text)} characters exceeds the limit of {MAX_URL}")
    if not text.isprintable():
        raise RemoteError(f"a URL with characters that have no place in one: {shown}")
    try:
        remote, scheme, query, fragment = _place(text)
    except RemoteError as error:
        raise RemoteError(str(error), hint=error.hint) from None
    try:
        wanted = _Wanted.read(query, fragment)
    except ValueError as error:
        raise RemoteError(f"{shown}: {error}") from None
    if checksum is not None:
        if not _PREFIX.fullmatch(checksum):
            raise RemoteError(f"--checksum: {printable(checksum)!r} is not how the name of a commit begins")
        if wanted.checksum not in ("", checksum):
            raise RemoteError(f"{shown}: its checksum is not that of --checksum")
    if wanted.keep_git_dir is False and keep_git_dir:
        raise RemoteError(f"{shown}: its keep-git-dir is not that of --keep-git-dir")
    return RepositorySource(
        remote,
        scheme,
        wanted.ref,
        wanted.subdir,
        checksum or wanted.checksum,
        keep_git_dir or bool(wanted.keep_git_dir),
        wanted.submodules,
        text,
    )


@frozen
class _Wanted:
    """What a URL says beside the place."""

    ref: str
    subdir: str
    checksum: str
    keep_git_dir: bool | None
    submodules: bool

    @staticmethod
    def read(query: str, fragment: str) -> _Wanted:
        """Raises ValueError."""
        ref, _, subdir = fragment.partition(":")
        found = _query(query)
        ref = _agreed("ref", ref, found.get("ref", ""))
        for name, prefix in (("tag", "refs/tags/"), ("branch", "refs/heads/")):
            if name in found:
                ref = _agreed(name, ref, prefix + found[name].removeprefix(prefix))
        checksum = _agreed("commit", found.get("checksum", ""), found.get("commit", ""))
        if checksum and not _PREFIX.fullmatch(checksum):
            raise ValueError(f"{checksum!r} is not how the name of a commit begins")
        ref = ref or checksum
        check_ref(ref)
        keep = _truth("keep-git-dir", found["keep-git-dir"]) if "keep-git-dir" in found else None
        modules = _truth("submodules", found["submodules"]) if "submodules" in found else True
        return _Wanted(ref, _clean(_agreed("subdir", subdir, found.get("subdir", ""))), checksum, keep, modules)


def basic(login: str) -> str:
    """What an Authorization header says of `user:password` (RFC 7617)."""
    return f"Basic {base64.b64encode(login.encode()).decode('ascii')}"


def authorization(source: RepositorySource, secret: Callable[[str], bytes | None]) -> str:
    """What secrets of BuildKit's names let git say to a server over http; "" for nothing, and where everybody could read it.

    GIT_AUTH_HEADER is the value of an Authorization header, GIT_AUTH_TOKEN a token; `.HOST` behind the name is for one server.
    Source: https://docs.docker.com/build/building/secrets/#git-authentication-for-remote-contexts
    """
    if not source.server:
        return ""
    origin = Location.parse(source.remote).url.origin
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
                raise RemoteError(f"the secret {name!r} holds characters that no header can have")
            return basic(f"x-access-token:{text}") if name.startswith("GIT_AUTH_TOKEN") else text
    return ""


def relative_remote(remote: str, url: str) -> str:
    """Where a submodule is that `./` or `../` lead to from its own repository, as gitmodules(5) has it. Raises RemoteError."""
    scp = _SCP.fullmatch(remote) if "://" not in remote else None
    start = scp.start("path") if scp is not None else len(remote) - len(urlsplit(remote).path)
    parts = remote[start:].strip("/").split("/")
    slash = "/" if remote[start:].startswith("/") else ""
    for part in url.split("/"):
        if part == "..":
            if not parts:
                raise RemoteError(f"{printable(url)} leads out of the server")
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return remote[:start] + slash + "/".join(parts)


def check_ref(ref: str) -> None:
    """Raises ValueError for what no branch or tag can be called: what git would take for an option, among others."""
    parts = ref.split("/")
    if ref and (
        ref.startswith("-")
        or ref.endswith(".")
        or len(ref) > _MAX_REF
        or _BAD_IN_REF.search(ref)
        or any(not part or part.startswith(".") or part.endswith(".lock") for part in parts)
    ):
        raise ValueError(f"{printable(ref)!r} can be the name of no branch, tag or commit")


def _query(query: str) -> dict[str, str]:
    known = {"ref", "tag", "branch", "subdir", "checksum", "commit", "keep-git-dir", "submodules"}
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise ValueError(f"unexpected {name!r} behind the question mark")
        if name in found:
            raise ValueError(f"{name!r} comes twice behind the question mark")
        if not value and name not in ("keep-git-dir", "submodules"):
            raise ValueError(f"{name!r} has no value behind the question mark")
        found[name] = value
    return found


def _agreed(name: str, one: str, other: str) -> str:
    if one and other and one != other:
        raise ValueError(f"{name} says {other!r}, where {one!r} was said already")
    return one or other


def _truth(name: str, value: str) -> bool:
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise ValueError(f"{name}={value}: expected true or false")


def _clean(subdir: str) -> str:
    """The path from the root of the repository; `..` cannot leave it."""
    return posixpath.normpath("/" + subdir).lstrip("/")


def _place(text: str) -> tuple[str, str, str, str]:
    """What git gets, its scheme, the query and the fragment. Raises RemoteError."""
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
        raise RemoteError(f"no URL: {printable(redact(text))}") from None
    fragment = unquote(parts.fragment)
    remote = parts._replace(query="", fragment="").geturl()
    if parts.scheme in ("http", "https"):
        Location.parse(remote)
        return remote, parts.scheme, parts.query, fragment
    if parts.scheme not in ("git", "ssh"):
        raise RemoteError(f"{printable(redact(text))} is the URL of no repository")
    host = _check_host(parts.hostname or "")
    if port == 0:
        raise RemoteError(f"port 0 in a URL, for {host}")
    _check_path(parts.path, text)
    if parts.password is not None:
        raise RemoteError(f"a password in a {parts.scheme} URL, for {host}", hint="ssh asks the agent of --ssh")
    if parts.username is not None and (parts.scheme == "git" or not _USER.fullmatch(parts.username)):
        raise RemoteError(f"{printable(parts.username)!r} can be no user in a {parts.scheme} URL")
    return remote, parts.scheme, parts.query, fragment


def _check_host(text: str) -> str:
    host = parse_host(text)
    address = address_of(host)
    if address is not None and is_nobodys(address):
        raise RemoteError(f"{host} is an address that no server of others has")
    return host


def _check_path(path: str, text: str) -> None:
    if not path.strip("/") or path.startswith("-") or path.startswith("/-"):
        raise RemoteError(f"{printable(redact(text))} names no repository of its server")
