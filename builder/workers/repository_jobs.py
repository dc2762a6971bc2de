"""The jobs of a repository: ask which commit a reference is, get the files of one, list what lies below a directory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from builder.repository import RepositorySource

if TYPE_CHECKING:
    from builder.git.server import Server


@dataclass(frozen=True, slots=True)
class RepositoryAccess:
    """How servers are reached: the user's environment, and the socket of the SSH agent that he hands over."""

    environ: tuple[tuple[str, str], ...] = field(repr=False)
    agent: str | None = None

    def server(self, source: RepositorySource, directory: str) -> Server:
        """The server, which git asks from `directory`. Raises BuildError, StoreError."""
        from builder.git.places import Access
        from builder.git.server import Server
        from store.registry.config import Config

        environ = dict(self.environ)
        return Server(source, Access(environ, self.agent, Config.load(environ)), directory)


@dataclass(frozen=True, slots=True)
class FoundCommit:
    """What a reference is; as in builder/git/server.py."""

    commit: str
    ref: str
    tag: str


@dataclass(frozen=True, slots=True)
class AskRepository:
    """Ask what the reference of a source is at the moment. Git may use `directory`, which is not there yet."""

    in_namespace: ClassVar[bool] = False
    source: RepositorySource
    access: RepositoryAccess
    directory: str

    def run(self) -> FoundCommit:
        from builder.git.process import failures_told

        with failures_told():
            found = self.access.server(self.source, self.directory).resolve()
        return FoundCommit(found.commit, found.ref, found.tag)


@dataclass(frozen=True, slots=True)
class FetchedRepository:
    """The tar of all files of a commit."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class FetchRepository:
    """Get a commit into `directory`, which is not there yet, and write its files as a tar to `path`."""

    in_namespace: ClassVar[bool] = False
    source: RepositorySource
    access: RepositoryAccess
    found: FoundCommit
    directory: str
    path: str

    def run(self) -> FetchedRepository:
        from builder.git.checkout import write_checkout
        from builder.git.process import failures_told
        from builder.git.server import Resolved

        resolved = Resolved(self.found.commit, self.found.ref, self.found.tag)
        with failures_told():
            server = self.access.server(self.source, self.directory)
            return FetchedRepository(*write_checkout(server, self.source, resolved, self.path))


@dataclass(frozen=True, slots=True)
class Listed:
    """The table of contents is written."""


@dataclass(frozen=True, slots=True)
class ListSubdir:
    """Write the table of contents of the directory `subdir` of a tar to `toc`; its paths are relative to it."""

    in_namespace: ClassVar[bool] = False
    tar: str
    name: str
    subdir: str
    toc: str

    def run(self) -> Listed:
        from builder.git.subdir import entries_below
        from store.toc import Toc

        Toc.write(self.toc, entries_below(self.tar, self.name, self.subdir))
        return Listed()
