"""The jobs for git repositories: find the commit of a reference, fetch its files, list a directory among them."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, ClassVar

from pybuild.builder.jobs.job import Done
from pybuild.remote.git.url import FoundCommit, RepositorySource
from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.remote.git.access import GitAccess


@frozen
class RepositoryAccess:
    """How to reach servers: the user's environment, and the socket of the SSH agent that the user shares.

    `authorization` is an HTTP header for the source's own server only.
    """

    environ: tuple[tuple[str, str], ...] = field(repr=False)
    agent: str | None = None
    authorization: str = field(default="", repr=False)

    def read(self, source: RepositorySource) -> GitAccess:
        """The same, with the configuration files that the environment names. Raises ConfigError."""
        from pybuild.remote.git.access import GitAccess
        from pybuild.remote.registry.config import Config

        environ = dict(self.environ)
        return GitAccess(environ, self.agent, Config.load(environ), self.authorization, source.server)


@frozen
class ResolveReference:
    """Ask the server which commit the reference of a source means now. `directory` is empty scratch space for git."""

    in_namespace: ClassVar[bool] = False
    source: RepositorySource
    access: RepositoryAccess
    directory: str

    def run(self) -> FoundCommit:
        from pybuild.remote.git.server import GitServer

        return GitServer(self.source, self.access.read(self.source), f"{self.directory}/0").resolve()


@frozen
class FetchedRepository:
    """The digest and size of the tar of a commit's files."""

    digest: str
    size: int


@frozen
class FetchRepository:
    """Fetch a commit into `directory`, which is empty, and write its files as a tar to `path`."""

    in_namespace: ClassVar[bool] = False
    source: RepositorySource
    access: RepositoryAccess
    found: FoundCommit
    directory: str
    path: str

    def run(self) -> FetchedRepository:
        from pybuild.remote.git.checkout import write_checkout

        return FetchedRepository(
            *write_checkout(self.source, self.found, self.access.read(self.source), self.directory, self.path)
        )


@frozen
class ListSubdirectory:
    """Write a table of contents of the directory `subdir` of a tar to `toc`, with paths relative to that directory."""

    in_namespace: ClassVar[bool] = False
    tar: str
    name: str
    subdir: str
    toc: str

    def run(self) -> Done:
        from pybuild.remote.git.subdirectory import entries_below
        from pybuild.store.formats.toc import Toc

        Toc.write(self.toc, entries_below(self.tar, self.name, self.subdir))
        return Done()
