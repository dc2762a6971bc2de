"""The sources from elsewhere of one build: what they are at the moment, and their content once a step needs it.

Each is asked once a build, also where all is cached: what a URL has may be another thing today. One whose checksum is given,
though, is known by it, and nobody is asked until the content is needed.
"""

from __future__ import annotations

import email.utils
import os
from functools import cached_property
from typing import TYPE_CHECKING

from pybuild.builder.files.tree import FetchedSource
from pybuild.builder.jobs.fetch import FetchUrl
from pybuild.builder.workers.tasks import run_until_complete
from pybuild.remote.git.url import RepositorySource
from pybuild.store.formats.digest import Digest
from pybuild.store.objects.downloads import Downloaded
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pybuild.builder.remote_source import RemoteSource, UrlSource
    from pybuild.builder.sources.git_checkouts import Checkout, Repositories
    from pybuild.builder.workers.pool import Pool
    from pybuild.store.store import Store


@frozen
class ContextFile:
    """A download that is a context: where it is, what it is for the key of a step, and its time."""

    path: str
    identity: str
    mtime: int


class Remotes:
    """The remote sources of a build."""

    def __init__(
        self,
        store: Store,
        pool: Pool,
        environ: Mapping[str, str],
        agent: str | None = None,
        secret: Callable[[str], bytes | None] = lambda id: None,
    ) -> None:
        """`agent` is the socket of the SSH agent that the user hands to repositories, `secret` tells his secrets by id."""
        self._store = store
        self._pool = pool
        self._environ = environ
        self._agent = agent
        self._secret = secret
        self._downloads: dict[str, Downloaded] = {}  # by URL, what is known to be right now

    @cached_property
    def _repositories(self) -> Repositories:
        from pybuild.builder.sources.git_checkouts import Repositories

        return Repositories(self._store, self._pool, self._environ, self._agent, self._secret)

    async def identify(self, source: RemoteSource) -> None:
        """Find out what the source is at the moment. Raises BuildError, OSError."""
        if isinstance(source, RepositorySource):
            await self._repositories.identify(source)
        elif source.checksum is None:
            await self._download(source)

    def identity(self, source: RemoteSource) -> str | None:
        """What the source is, for the key of a step; None while nobody has found that out, or where nobody can."""
        if isinstance(source, RepositorySource):
            return self._repositories.identity(source)
        known = self._downloads.get(source.url)
        digest = source.checksum or (known.digest if known is not None else None)
        return None if digest is None else f"url {digest}"

    async def fetched(self, source: RemoteSource, position: int) -> FetchedSource:
        """The content, for the source at `position` of its step. Raises BuildError, OSError."""
        if isinstance(source, RepositorySource):
            checkout = await self._repositories.checkout(source)
            return FetchedSource(position, checkout.tar, "", 0, checkout.toc)
        found = await self._download(source)
        return FetchedSource(position, self._store.blobs.path(found.digest), source.name, _seconds(found.last_modified))

    def checkout(self, source: RepositorySource) -> tuple[Checkout, str]:
        """The files of a repository and what they are, for a caller that stands still. Raises BuildError, OSError."""
        found = run_until_complete(self._repositories.checkout(source))
        identity = self._repositories.identity(source)
        assert identity is not None
        return found, identity

    def file(self, source: UrlSource) -> ContextFile:
        """The content now, for a caller that stands still until it is there. Raises BuildError, OSError."""
        found = run_until_complete(self._download(source))
        identity = self.identity(source)
        assert identity is not None
        return ContextFile(self._store.blobs.path(found.digest), identity, _seconds(found.last_modified))

    async def _download(self, source: UrlSource) -> Downloaded:
        async with self._pool.locks(("url", source.url)):
            known = self._downloads.get(source.url)
            if known is None or source.checksum not in (None, known.digest):
                known = self._downloads[source.url] = await self._ask(source)
            return known

    async def _ask(self, source: UrlSource) -> Downloaded:
        known = self._store.downloads.find(source.url)
        if known is not None and known.digest == source.checksum:
            return known
        version = (known.etag, known.last_modified) if known is not None and source.checksum is None else ("", "")
        checksum = str(source.checksum) if source.checksum is not None else None
        environ = tuple(sorted(self._environ.items()))
        job = FetchUrl(source.url, self._store.ingest.new_path(), environ, *version, checksum=checksum)
        try:
            answer = await self._pool.job_without_core(job)
            if not answer.digest:
                assert known is not None
                return known
            found = Downloaded(Digest.parse(answer.digest), answer.etag, answer.last_modified)
            self._store.blobs.adopt(job.path, found.digest, answer.size)
        finally:
            if os.path.exists(job.path):
                os.unlink(job.path)
        self._store.downloads.put(source.url, found)
        return found


def _seconds(last_modified: str) -> int:
    """A Last-Modified as seconds since the epoch; 0 where there is none that can be read, as BuildKit has it."""
    try:
        return max(0, int(email.utils.parsedate_to_datetime(last_modified).timestamp()))
    except (ValueError, TypeError, OverflowError, OSError):
        return 0
