"""The git repositories of one build: which commit each reference is now, and the files of that commit.

A commit never changes. So pybuild fetches its files once, and the store keeps them as a tar under the name of the
commit. Once a build, pybuild asks the server which commit a branch or tag means.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.builder.errors import BuildError
from pybuild.builder.events import DownloadProgress
from pybuild.builder.jobs.git import FetchRepository, ListSubdirectory, RepositoryAccess, ResolveReference
from pybuild.builder.sources.worker_environment import worker_environment
from pybuild.remote.git.url import FoundCommit, authorization
from pybuild.store.errors import CannotWrite
from pybuild.store.formats.digest import Digest
from pybuild.store.objects.downloads import Downloaded
from pybuild.store.system.directories import remove_tree
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pybuild.builder.session import Session
    from pybuild.remote.git.url import RepositorySource


@frozen
class Checkout:
    """The files of a repository, or of one directory of it."""

    tar: str
    toc: str  # with the paths as the build sees them


class GitCheckouts:
    """The repositories that one build reads."""

    def __init__(self, session: Session, environ: Mapping[str, str]) -> None:
        self._store = session.store
        self._observe = session.observe
        self._pool = session.pool
        self._secret = session.secrets.read
        self._access = RepositoryAccess(worker_environment(environ), session.secrets.agent("default"))
        self._found: dict[RepositorySource, FoundCommit] = {}
        self._checkouts: dict[RepositorySource, Checkout] = {}

    async def identify(self, source: RepositorySource) -> FoundCommit:
        """Find out which commit the source means now. Raises BuildError, StoreError, RemoteError, OSError."""
        async with self._pool.locks(("repository", source)):
            if source not in self._found:
                self._found[source] = await self._find_commit(source)
            return self._found[source]

    def identity(self, source: RepositorySource) -> str | None:
        """What identifies the files in cache keys; None before `identify`."""
        found = self._found.get(source)
        return (
            None if found is None else " ".join((_tar_key(source, found), *([source.subdir] if source.subdir else [])))
        )

    async def checkout(self, source: RepositorySource) -> Checkout:
        """Fetch the files, if the store does not have them. Raises BuildError, StoreError, RemoteError, OSError."""
        found = await self.identify(source)
        async with self._pool.locks(("checkout", source)):
            if source not in self._checkouts:
                tar = self._store.blobs.path(await self._tar(source, found))
                toc = self._store.ingest.new_path()
                await self._pool.job(ListSubdirectory(tar, source.redacted, source.subdir, toc))
                self._checkouts[source] = Checkout(tar, toc)
            return self._checkouts[source]

    async def _find_commit(self, source: RepositorySource) -> FoundCommit:
        if source.commit is not None:
            if not source.commit.startswith(source.checksum):
                raise BuildError(f"{source.redacted}: expected a commit {source.checksum}…, got {source.commit}")
            return FoundCommit(source.commit)
        directory = self._store.ingest.new_directory()
        try:
            return await self._pool.job_without_core(ResolveReference(source, self._access_to(source), directory))
        finally:
            self._remove(directory)

    async def _tar(self, source: RepositorySource, found: FoundCommit) -> Digest:
        key = _tar_key(source, found)
        async with self._pool.locks(key):
            known = self._store.downloads.find(key)
            if known is not None:
                return known.digest
            ingest = self._store.ingest
            job = FetchRepository(source, self._access_to(source), found, ingest.new_directory(), ingest.new_path())
            try:
                progress = DownloadProgress(self._observe, source.redacted)
                fetched = await self._pool.job_without_core(job, progress)
                progress.end()
                digest = Digest.parse(fetched.digest)
                self._store.blobs.adopt(job.path, digest, fetched.size)
            finally:
                self._remove(job.directory, job.path)
            with suppress(CannotWrite):
                self._store.downloads.put(key, Downloaded(digest, "", ""))
            return digest

    def _access_to(self, source: RepositorySource) -> RepositoryAccess:
        return replace(self._access, authorization=authorization(source, self._secret))

    def _remove(self, *paths: str) -> None:
        for path in paths:
            remove_tree(self._store.ingest.fd, os.path.basename(path))


def _tar_key(source: RepositorySource, found: FoundCommit) -> str:
    """The key of a tar in the store: everything that its content depends on, with `.git` also the repository's URL."""
    parts = ["git", found.commit]
    if not source.submodules:
        parts.append("without submodules")
    if source.includes_git_dir:
        parts += ["with .git", found.ref, found.tag, source.redacted_remote]
    return " ".join(parts)
