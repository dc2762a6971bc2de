"""Remote sources: the URLs and git repositories that an ADD or a context names."""

from __future__ import annotations

import posixpath
import re
from dataclasses import field
from typing import TYPE_CHECKING, TypeAlias

from pybuild.builder.errors import PlanError
from pybuild.remote.errors import RemoteError
from pybuild.store.errors import InvalidImage
from pybuild.store.formats.digest import Digest
from pybuild.values import frozen
from pybuild.values.pattern import pattern
from pybuild.values.redact import redact

if TYPE_CHECKING:
    from pybuild.remote.git.url import RepositorySource

_REMOTE = pattern(r"(?:https?|git|ssh)://|[a-zA-Z0-9_][a-zA-Z0-9_-]*@[\w.-]+:", re.ASCII)
_UNNAMED = "__unnamed__"
_MAX_NAME = 255  # bytes


@frozen
class UrlSource:
    """A file to download. `name` is its name in a destination directory; `checksum` is the digest that it must have."""

    url: str = field(repr=False)  # it can contain a password
    name: str
    checksum: Digest | None = None

    @property
    def redacted(self) -> str:
        """The URL as it was written, without its password, for messages and the history."""
        return redact(self.url)


RemoteSource: TypeAlias = "UrlSource | RepositorySource"


def is_remote(source: str) -> bool:
    """Whether a source is a URL or a git repository; any other source is a path in the context."""
    return _REMOTE.match(source) is not None


def is_repository(text: str) -> bool:
    """Whether a remote source is a git repository. An http URL is one if its path ends with .git."""
    if not text.startswith(("http://", "https://")):
        return True
    from urllib.parse import urlsplit

    try:
        return urlsplit(text).path.endswith(".git")
    except ValueError:  # an invalid host
        return False


def read_remote(text: str, checksum: str | None, *, keep_git_dir: bool = False) -> RemoteSource:
    """Parse a source for which `is_remote` is true, and the value of --checksum. Raises PlanError without a span.

    `keep_git_dir` applies to a repository only.
    """
    # Local imports, here and below: most recipes name nothing on other machines.
    from pybuild.remote.git.url import parse_repository
    from pybuild.remote.http.urls import UrlWithLogin

    try:
        if is_repository(text):
            return parse_repository(text, checksum, keep_git_dir=keep_git_dir)
        UrlWithLogin.parse(text)
    except RemoteError as error:
        raise PlanError(str(error), hint=error.hint) from None
    return _read_url(text, checksum)


def _read_url(text: str, checksum: str | None) -> UrlSource:
    """Parse the URL of a file. Raises PlanError without a span."""
    from urllib.parse import unquote, urlsplit

    try:
        digest = Digest.parse(checksum) if checksum is not None else None
    except InvalidImage as error:
        raise PlanError(f"--checksum: {error}", hint=error.hint) from None
    name = posixpath.basename(unquote(urlsplit(text).path, errors="surrogateescape").rstrip("/"))
    if name in ("", "."):
        name = _UNNAMED
    if name == ".." or "\0" in name or len(name.encode("utf-8", "surrogateescape")) > _MAX_NAME:
        raise PlanError(f"{redact(text)} does not end with a valid file name")
    return UrlSource(text, name, digest)
