"""A commit of a server as one tar: its files, those of the repositories in it, and `.git` where that is kept."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.errors import BuildError
from builder.git.kept import add_git_dir
from builder.git.tree import ATTRIBUTES, Archive, modules_of, write_tree
from store.tarformat import show

if TYPE_CHECKING:
    from builder.git.server import Resolved, Server
    from builder.repository import RepositorySource


def write_checkout(server: Server, source: RepositorySource, resolved: Resolved, path: str) -> tuple[str, int]:
    """Fetch, and write the tar to `path`; its digest and size. Raises BuildError, StoreError, OSError."""
    server.fetch(resolved)
    git = server.git
    modules = modules_of(git, resolved.commit)
    if modules and source.submodules:
        raise BuildError(
            f"{server.who}: {show(modules[0].path)} is another repository, a submodule, and those are not fetched yet",
            hint="?submodules=false leaves their directories empty",
        )
    os.makedirs(f"{git.directory}/info", exist_ok=True)
    with open(f"{git.directory}/info/attributes", "x") as file:
        file.write(ATTRIBUTES)
    with open(path, "xb", buffering=1 << 20) as out:
        archive = Archive(out, server.who)
        write_tree(git, resolved.commit, archive)
        if source.keeps_git_dir:
            add_git_dir(git, resolved, source.origin, archive)
        digest = archive.end()
    return digest, archive.size
