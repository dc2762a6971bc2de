"""Sources of an ADD that are elsewhere, as the recipe names them."""

from __future__ import annotations

import posixpath
import re
from dataclasses import field
from urllib.parse import unquote, urlsplit

from pybuild.builder.errors import PlanError
from pybuild.remote.errors import RemoteError
from pybuild.remote.git.url import RepositorySource, parse_repository
from pybuild.remote.http.urls import UrlWithLogin
from pybuild.store.errors import InvalidImage
from pybuild.store.formats.digest import Digest
from pybuild.values import frozen
from pybuild.values.redact import redact

_REMOTE = re.compile(r"(?:https?|git|ssh)://|[a-zA-Z0-9_][a-zA-Z0-9_-]*@[\w.-]+:", re.ASCII)
_UNNAMED = "__unnamed__"
_MAX_NAME = 255  # bytes


@frozen
class UrlSource:
    """A file that is downloaded. `name` is what it is called in a directory; `checksum` is what its content has to be."""

    url: str = field(repr=False)  # a password may be in it
    name: str
    checksum: Digest | None = None

    @property
    def shown(self) -> str:
        """What messages and the history call it."""
        return redact(self.url)


RemoteSource = UrlSource | RepositorySource


def is_remote(source: str) -> bool:
    """Whether a source is a URL or names a git repository; everything else is a path of the context."""
    return _REMOTE.match(source) is not None


def is_repository(text: str) -> bool:
    """Whether what `is_remote` is a git repository: over http by the name of its path alone."""
    return not text.startswith(("http://", "https://")) or urlsplit(text).path.endswith(".git")


def read_remote(text: str, checksum: str | None, *, keep_git_dir: bool = False) -> RemoteSource:
    """Read a source that `is_remote`, and what --checksum says. Raises PlanError, without a place.

    `keep_git_dir` is for a repository: a file has none.
    """
    try:
        if is_repository(text):
            return parse_repository(text, checksum, keep_git_dir=keep_git_dir)
        UrlWithLogin.parse(text)
    except RemoteError as error:
        raise PlanError(str(error), hint=error.hint) from None
    return _read_url(text, checksum)


def _read_url(text: str, checksum: str | None) -> UrlSource:
    """Raises PlanError, without a place."""
    try:
        digest = Digest.parse(checksum) if checksum is not None else None
    except InvalidImage as error:
        raise PlanError(f"--checksum: {error}", hint=error.hint) from None
    name = posixpath.basename(unquote(urlsplit(text).path, errors="surrogateescape").rstrip("/"))
    if name in ("", "."):
        name = _UNNAMED
    if name == ".." or "\0" in name or len(name.encode("utf-8", "surrogateescape")) > _MAX_NAME:
        raise PlanError(f"{redact(text)} ends in no name that a file can have")
    return UrlSource(text, name, digest)
