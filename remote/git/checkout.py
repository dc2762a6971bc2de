"""A commit of a server as one tar: its files, those of the repositories in it, and `.git` where that is kept."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.remote.errors import RemoteError
from pybuild.remote.git.archive import ATTRIBUTES, Archive, modules_of, write_tree
from pybuild.remote.git.dot_git import add_git_dir
from pybuild.remote.git.process import GitFailed
from pybuild.remote.git.server import GitServer
from pybuild.remote.git.url import FoundCommit, read_repository, relative_remote
from pybuild.remote.http.urls import printable
from pybuild.store.formats.tar import show
from pybuild.values import frozen
from pybuild.values.redact import redact

if TYPE_CHECKING:
    from pybuild.remote.git.access import Access
    from pybuild.remote.git.archive import Module
    from pybuild.remote.git.process import Git
    from pybuild.remote.git.url import RepositorySource

_MAX_MODULES = 1000
_MAX_DEPTH = 10  # of repositories in repositories


@frozen
class _Part:
    """A commit that is still to be added, and where."""

    source: RepositorySource
    resolved: FoundCommit
    prefix: bytes
    depth: int


def write_checkout(
    source: RepositorySource, resolved: FoundCommit, access: Access, directory: str, path: str
) -> tuple[str, int]:
    """Fetch, and write the tar to `path`; its digest and size. Git keeps all that it gets below `directory`, which is empty.

    Raises RemoteError, GitFailed, StoreError, OSError.
    """
    first = GitServer(source, access, f"{directory}/0")
    allowance = first.git.allowance
    pending = [_Part(source, resolved, b"", 0)]
    count = 0
    with open(path, "xb", buffering=1 << 20) as out:
        archive = Archive(out, first.who)
        while pending:
            part = pending.pop()
            server = first if not count else GitServer(part.source, access, f"{directory}/{count}", allowance)
            count += 1
            server.fetch(part.resolved)
            modules = modules_of(server.git, part.resolved.commit)
            if modules and source.submodules:
                if part.depth == _MAX_DEPTH or count + len(pending) + len(modules) > _MAX_MODULES:
                    raise RemoteError(
                        f"{first.who}: more than the limit of {_MAX_MODULES} submodules, or of {_MAX_DEPTH} in one another"
                    )
                pending += _parts(server.git, part, modules)
            os.makedirs(f"{server.git.directory}/info", exist_ok=True)
            with open(f"{server.git.directory}/info/attributes", "x") as file:
                file.write(ATTRIBUTES)
            write_tree(server.git, part.resolved.commit, archive, part.prefix)
            allowance.settle(server.git.size())
            if not part.prefix and source.keeps_git_dir:
                add_git_dir(server.git, resolved, source.origin, archive)
        digest = archive.end()
    return digest, archive.size


def _parts(git: Git, part: _Part, modules: list[Module]) -> list[_Part]:
    """Where the repositories in a commit are: its `.gitmodules` tells, gitmodules(5). Raises RemoteError."""
    urls = _urls(git, part.resolved.commit)
    found = []
    for module in modules:
        shown = show(part.prefix + module.path)
        url = urls.get(module.path)
        if url is None:
            raise RemoteError(
                f"{git.who}: .gitmodules tells no place of the submodule {shown}",
                hint="?submodules=false leaves their directories empty",
            )
        try:
            source = module_source(part.source, url, module.commit)
        except RemoteError as error:
            raise RemoteError(f"{git.who}: the submodule {shown}: {error}", hint=error.hint) from None
        found.append(_Part(source, FoundCommit(module.commit), part.prefix + module.path + b"/", part.depth + 1))
    return found


def module_source(parent: RepositorySource, url: str, commit: str) -> RepositorySource:
    """The repository that `.gitmodules` names by `url`. Raises RemoteError for what is no repository of a server: files of this machine, and protocols that run programs."""
    if url.startswith(("./", "../")):
        url = relative_remote(parent.remote, url)
    if "#" in url or "?" in url:
        raise RemoteError(f"{printable(redact(url))} names no repository")
    return replace(read_repository(url), ref=commit)


def _urls(git: Git, commit: str) -> dict[bytes, str]:
    """The URLs of `.gitmodules` by path; nothing where there is none that can be read."""
    try:
        data = git.run("config", "--no-includes", "-z", "--blob", f"{commit}:.gitmodules", "--list")
    except GitFailed:
        return {}
    paths: dict[bytes, bytes] = {}
    urls: dict[bytes, str] = {}
    for line in data.split(b"\0"):
        key, _, value = line.partition(b"\n")
        section, _, field = key.rpartition(b".")
        if field == b"path":
            paths[section] = value
        elif field == b"url":
            urls[section] = os.fsdecode(value)
    return {path.rstrip(b"/"): urls[section] for section, path in paths.items() if section in urls}
