"""The remote sources of one build: their current versions, and their content when a step needs it.

pybuild asks each server once a build, even if every step is cached, because the content of a URL can change. A source's
checksum identifies it, so pybuild asks the server of such a source only when it needs the content.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from pybuild.builder.events import DownloadProgress
from pybuild.builder.files.tree import FetchedSource
from pybuild.builder.jobs.fetch import FetchUrl
from pybuild.builder.sources.worker_environment import worker_environment
from pybuild.builder.workers.tasks import run_until_complete
from pybuild.remote.git.url import RepositorySource
from pybuild.remote.http.dates import http_date
from pybuild.store.errors import CannotWrite
from pybuild.store.formats.digest import Digest
from pybuild.store.objects.downloads import Downloaded
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pybuild.builder.remote_source import RemoteSource, UrlSource
    from pybuild.builder.session import Session
    from pybuild.builder.sources.git_checkouts import Checkout, GitCheckouts


@frozen
class DownloadedContext:
    """A download that serves as a context."""

    path: str
    identity: str  # for cache keys
    mtime: int  # seconds since the epoch


class RemoteSources:
    """The URLs and repositories that one build reads."""

    def __init__(self, session: Session, environ: Mapping[str, str]) -> None:
        """`environ` is the user's environment: proxies and credential helpers are configured in it."""
        self._session = session
        self._store = session.store
        self._pool = session.pool
        self._environ = environ
        self._downloads: dict[str, Downloaded] = {}  # by URL: the current version

    @cached_property
    def _repositories(self) -> GitCheckouts:
        from pybuild.builder.sources.git_checkouts import GitCheckouts

        return GitCheckouts(self._session, self._environ)

    async def identify(self, source: RemoteSource) -> None:
        """Find out the current version of the source. Raises BuildError, StoreError, RemoteError, OSError."""
        if isinstance(source, RepositorySource):
            await self._repositories.identify(source)
        elif source.checksum is None:
            await self._download(source)

    def identity(self, source: RemoteSource) -> str | None:
        """What identifies the source in cache keys; None if that is not known yet."""
        if isinstance(source, RepositorySource):
            return self._repositories.identity(source)
        known = self._downloads.get(source.url)
        digest = source.checksum or (known.digest if known is not None else None)
        return None if digest is None else f"url {digest}"

    async def fetched(self, source: RemoteSource, position: int) -> FetchedSource:
        """The content of the source at `position` of its step. Raises BuildError, StoreError, RemoteError, OSError."""
        if isinstance(source, RepositorySource):
            checkout = await self._repositories.checkout(source)
            return FetchedSource(position, checkout.tar, "", 0, checkout.toc)
        found = await self._download(source)
        return FetchedSource(position, self._store.blobs.path(found.digest), source.name, _seconds(found.last_modified))

    def checkout(self, source: RepositorySource) -> tuple[Checkout, str]:
        """The files of a repository and its identity. Blocks. Raises BuildError, StoreError, RemoteError, OSError."""
        found = run_until_complete(self._repositories.checkout(source))
        identity = self._repositories.identity(source)
        assert identity is not None
        return found, identity

    def file(self, source: UrlSource) -> DownloadedContext:
        """The content of a URL. Blocks until it is downloaded. Raises BuildError, StoreError, RemoteError, OSError."""
        found = run_until_complete(self._download(source))
        identity = self.identity(source)
        assert identity is not None
        return DownloadedContext(self._store.blobs.path(found.digest), identity, _seconds(found.last_modified))

    async def _download(self, source: UrlSource) -> Downloaded:
        async with self._pool.locks(("url", source.url)):
            known = self._downloads.get(source.url)
            if known is None or source.checksum not in (None, known.digest):
                known = self._downloads[source.url] = await self._fetch_if_changed(source)
            return known

    async def _fetch_if_changed(self, source: UrlSource) -> Downloaded:
        known = self._store.downloads.find(source.url)
        if known is not None and known.digest == source.checksum:
            return known
        version = (known.etag, known.last_modified) if known is not None and source.checksum is None else ("", "")
        checksum = str(source.checksum) if source.checksum is not None else None
        environ = worker_environment(self._environ)
        job = FetchUrl(source.url, self._store.ingest.new_path(), environ, *version, checksum=checksum)
        try:
            progress = DownloadProgress(self._session.observe, source.redacted)
            answer = await self._pool.job_without_core(job, progress)
            progress.end(answer.size)
            if not answer.digest:
                assert known is not None
                return known
            found = Downloaded(Digest.parse(answer.digest), answer.etag, answer.last_modified)
            self._store.blobs.adopt(job.path, found.digest, answer.size)
        finally:
            if os.path.exists(job.path):
                os.unlink(job.path)
        with suppress(CannotWrite):
            self._store.downloads.put(source.url, found)
        return found


def _seconds(last_modified: str) -> int:
    """A Last-Modified header as seconds since the epoch; 0 if it is missing or malformed, as in BuildKit."""
    return max(0, int(http_date(last_modified) or 0))
