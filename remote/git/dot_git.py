"""The `.git` of a checkout with keep-git-dir: one commit and its reference, without history.

pybuild makes it from the fetched repository. Each server packs objects in its own way; git packs them again here, so the
same commit and the same git give the same bytes. Source of the necessary files: gitrepository-layout(5).
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from pybuild.store.formats import tar
from pybuild.store.system.directories import remove_tree
from pybuild.store.system.files import chunks_of

if TYPE_CHECKING:
    from pybuild.remote.git.archive import Archive
    from pybuild.remote.git.process import Git
    from pybuild.remote.git.url import FoundCommit

_PACKING = ("-c", "pack.threads=1", "-c", "pack.writeReverseIndex=false", "-c", "repack.writeBitmaps=false")
_REMOVED = (
    "FETCH_HEAD",
    "ORIG_HEAD",
    "config",
    "description",
    "hooks",
    "info",
    "logs",
    "packed-refs",
    "refs",
    "shallow",
    "branches",
)


def add_git_dir(git: Git, resolved: FoundCommit, origin: str, archive: Archive) -> None:
    """Add `.git` to an archive. This leaves the repository `git` unusable. Raises RemoteError, OSError."""
    words = git.run("rev-list", "--parents", "--max-count=1", resolved.commit).decode("ascii").split()
    commit = words[0]
    time = int(git.run("show", "-s", "--format=%ct", commit))
    _strip(git, resolved, commit, origin, has_parents=len(words) > 1 or os.path.exists(f"{git.directory}/shallow"))
    git.run(*_PACKING, "repack", "-a", "-d", "-f", "-n", "--quiet")
    git.run("read-tree", commit)
    archive.member(b".git/", tar.DIRECTORY, 0o755, 0, time)
    _add_directory(os.fsencode(git.directory), b".git", time, archive)


def _strip(git: Git, resolved: FoundCommit, commit: str, origin: str, *, has_parents: bool) -> None:
    """Keep only the commit and the reference that the URL names, with a configuration like that of `git clone`."""
    directory = os.open(git.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in _REMOVED:
            remove_tree(directory, name)
    finally:
        os.close(directory)
    files = {"HEAD": f"{commit}\n", "config": _config(origin, sha256=len(commit) == 64)}
    if has_parents:
        files["shallow"] = f"{commit}\n"
    for name, text in files.items():
        with open(f"{git.directory}/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    os.makedirs(f"{git.directory}/refs/heads")
    os.makedirs(f"{git.directory}/refs/tags")
    if resolved.ref:
        git.run("update-ref", "--no-deref", "--", resolved.ref, resolved.tag or commit)


def _config(origin: str, *, sha256: bool) -> str:
    quoted = origin.replace("\\", "\\\\").replace('"', '\\"')
    return (
        f"[core]\n\trepositoryformatversion = {int(sha256)}\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n"
        + ("[extensions]\n\tobjectformat = sha256\n" if sha256 else "")
        + f'[remote "origin"]\n\turl = "{quoted}"\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n'
    )


def _add_directory(directory: bytes, name: bytes, time: int, archive: Archive) -> None:
    """Add a directory to the archive. git made and named everything in it, so it is only a few levels deep."""
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        path = name + b"/" + entry.name
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            archive.member(path + b"/", tar.DIRECTORY, 0o755, 0, time)
            _add_directory(entry.path, path, time, archive)
            continue
        with open(entry.path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            archive.member(path, tar.REGULAR, 0o444 if b"/objects/" in path else 0o644, size, time)
            for chunk in chunks_of(file.fileno()):
                archive.write(chunk)
            archive.pad(size)
