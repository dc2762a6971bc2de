"""The files of a commit, as a tar in the one form that tars have here.

`git archive` gives them as a checkout would write them, ends of lines and all, and without ever writing one. What only
archives leave out or replace (export-ignore, export-subst) is overruled by attributes of our own. All belongs to root and
has the time of the commit. Before that the tree is looked through, so that one of very many files is told by the
first few million.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, BinaryIO

from pybuild.remote.errors import RemoteError
from pybuild.store.errors import InvalidImage
from pybuild.store.formats import tar
from pybuild.store.formats.tar import show
from pybuild.store.formats.tar_header import entry_header
from pybuild.store.layers.read import clean_path
from pybuild.values import frozen
from pybuild.values.limits import CONTEXT_ENTRIES, CONTEXT_LIMIT

if TYPE_CHECKING:
    from pybuild.remote.git.process import Git

ATTRIBUTES = "* -export-ignore -export-subst\n"
_LINK = b"160000"  # the mode of a commit of another repository
_CHUNK = 1 << 18


@frozen
class Module:
    """A commit of another repository that belongs at a path of a tree."""

    path: bytes
    commit: str


class Archive:
    """A tar that is being written, hashed and counted on the way."""

    def __init__(self, file: BinaryIO, who: str) -> None:
        self._file = file
        self._who = who
        self._hasher = hashlib.sha256()
        self._entries = 0
        self.size = 0

    def member(self, name: bytes, kind: bytes, mode: int, size: int, mtime: int, link: bytes = b"") -> None:
        """Begin a member; `write` has its content."""
        self._entries += 1
        if self._entries > CONTEXT_ENTRIES:
            raise self._too_large()
        self.write(entry_header(name, kind, mode=mode, uid=0, gid=0, size=size, mtime=mtime, link=link))

    def write(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > CONTEXT_LIMIT:
            raise self._too_large()
        self._hasher.update(data)
        self._file.write(data)

    def pad(self, size: int) -> None:
        """End the content of a member of `size` bytes."""
        self.write(bytes(-size % tar.BLOCK))

    def end(self) -> str:
        """End it all; the digest."""
        self.write(tar.END)
        return f"sha256:{self._hasher.hexdigest()}"

    def _too_large(self) -> RemoteError:
        return RemoteError(f"{self._who}: more than the limit of {CONTEXT_ENTRIES} files or {CONTEXT_LIMIT} bytes")


def modules_of(git: Git, commit: str) -> list[Module]:
    """Look through a tree: the commits of other repositories in it. Raises RemoteError for one that no checkout takes."""
    found = []
    count = size = 0
    left = b""
    with git.start("ls-tree", "-r", "-t", "-l", "-z", "--full-tree", f"{commit}^{{commit}}") as running:
        while data := running.read(_CHUNK):
            *rows, left = (left + data).split(b"\0")
            for row in rows:
                words, _, path = row.partition(b"\t")
                mode, _, name, length = words.split()
                count += 1
                size += int(length) if length.isdigit() else 0
                if count > CONTEXT_ENTRIES or size > CONTEXT_LIMIT:
                    raise RemoteError(
                        f"{git.who}: more than the limit of {CONTEXT_ENTRIES} files or {CONTEXT_LIMIT} bytes"
                    )
                _check_path(git.who, path)
                if mode == _LINK:
                    found.append(Module(path, name.decode("ascii")))
        running.finish()
    return found


def write_tree(git: Git, commit: str, archive: Archive, prefix: bytes = b"") -> None:
    """Add the files of a commit to an archive, below `prefix` (which ends in a slash). Raises RemoteError."""
    with git.start("archive", "--format=tar", f"{commit}^{{commit}}") as running:
        reader = tar.TarReader(running)
        try:
            for member in reader:
                path = clean_path(member.name)
                if not path:
                    continue
                _check_path(git.who, path)
                directory = member.type == tar.DIRECTORY
                name = prefix + path + (b"/" if directory else b"")
                archive.member(name, member.type, member.mode, member.size, member.mtime, member.linkname)
                for piece in reader.data():
                    archive.write(piece)
                archive.pad(member.size)
        except InvalidImage as error:
            running.finish()  # what git says of it tells more
            raise RemoteError(f"{git.who}: {error}", hint=error.hint) from None
        running.finish()


def _check_path(who: str, path: bytes) -> None:
    """Names that git refuses to check out: `.git` is that of whoever has the repository. Nothing else is special here."""
    for part in path.split(b"/"):
        if part in (b"", b".", b"..") or part.lower() == b".git":
            raise RemoteError(f"{who}: the repository has a file {show(path)}, and nobody can check out that name")
