"""A commit of a repository as one tar: its files, the files of its submodules, and with keep-git-dir its `.git`."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.remote.errors import GitFailed, RemoteError
from pybuild.remote.git.archive import ATTRIBUTES, Archive, submodules_of, write_tree
from pybuild.remote.git.dot_git import add_git_dir
from pybuild.remote.git.server import GitServer
from pybuild.remote.git.url import FoundCommit, parse_repository, resolve_relative
from pybuild.remote.http.urls import printable
from pybuild.store.formats.tar import show
from pybuild.values import frozen
from pybuild.values.limits import SUBMODULE_DEPTH, SUBMODULES
from pybuild.values.redact import redact

if TYPE_CHECKING:
    from pybuild.remote.git.access import GitAccess
    from pybuild.remote.git.archive import Submodule
    from pybuild.remote.git.process import Git
    from pybuild.remote.git.url import RepositorySource


@frozen
class _Pending:
    """A commit that is not in the tar yet, and the path prefix that its files get."""

    source: RepositorySource
    resolved: FoundCommit
    prefix: bytes
    depth: int


def write_checkout(
    source: RepositorySource, resolved: FoundCommit, access: GitAccess, directory: str, path: str
) -> tuple[str, int]:
    """Fetch a commit and write its tar to the new file `path`; return the tar's digest and size.

    git keeps its repositories below the empty `directory`. Raises RemoteError, NotFound, OSError.
    """
    first = GitServer(source, access, f"{directory}/0")
    allowance = first.git.allowance
    pending = [_Pending(source, resolved, b"", 0)]
    count = 0
    with open(path, "xb", buffering=1 << 20) as out:
        archive = Archive(out, first.name)
        while pending:
            item = pending.pop()
            server = first if not count else GitServer(item.source, access, f"{directory}/{count}", allowance)
            count += 1
            server.fetch(item.resolved)
            submodules = submodules_of(server.git, item.resolved.commit)
            if submodules and source.submodules:
                if item.depth >= SUBMODULE_DEPTH.value:
                    raise SUBMODULE_DEPTH.exceeded(
                        RemoteError, f"{first.name}: submodules are nested deeper than the limit of {{}}"
                    )
                if count + len(pending) + len(submodules) > SUBMODULES.value:
                    raise SUBMODULES.exceeded(RemoteError, f"{first.name}: more than the limit of {{}} submodules")
                pending += _submodules(server.git, item, submodules)
            os.makedirs(f"{server.git.directory}/info", exist_ok=True)
            with open(f"{server.git.directory}/info/attributes", "x") as file:
                file.write(ATTRIBUTES)
            write_tree(server.git, item.resolved.commit, archive, item.prefix)
            allowance.add_finished(server.git.size())
            if not item.prefix and source.includes_git_dir:
                add_git_dir(server.git, resolved, source.redacted_remote, archive)
        digest = archive.end()
    return digest, archive.size


def _submodules(git: Git, item: _Pending, submodules: list[Submodule]) -> list[_Pending]:
    """The submodules of a commit, with the URLs from its `.gitmodules`, see gitmodules(5). Raises RemoteError."""
    urls = _urls(git, item.resolved.commit)
    found = []
    for submodule in submodules:
        shown = show(item.prefix + submodule.path)
        url = urls.get(submodule.path)
        if url is None:
            raise RemoteError(
                f"{git.name}: .gitmodules has no URL for the submodule {shown}",
                hint="?submodules=false leaves the directories of submodules empty",
            )
        try:
            source = submodule_source(item.source, url, submodule.commit)
        except RemoteError as error:
            raise RemoteError(f"{git.name}: the submodule {shown}: {error}", hint=error.hint) from None
        found.append(
            _Pending(source, FoundCommit(submodule.commit), item.prefix + submodule.path + b"/", item.depth + 1)
        )
    return found


def submodule_source(parent: RepositorySource, url: str, commit: str) -> RepositorySource:
    """The repository that `.gitmodules` names by `url`.

    Raises RemoteError if it is not on a server, but a path on this machine or a protocol that runs a program.
    """
    if url.startswith(("./", "../")):
        url = resolve_relative(parent.remote, url)
    if "#" in url or "?" in url:
        raise RemoteError(f"{printable(redact(url))} is not the URL of a repository")
    return replace(parse_repository(url), ref=commit)


def _urls(git: Git, commit: str) -> dict[bytes, str]:
    """The URLs of `.gitmodules` by path; empty if the file is missing or git cannot read it."""
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
