"""The files of a commit as a tar, in pybuild's one tar form.

`git archive` gives the files as a checkout would write them, line ends included, without writing a checkout. pybuild's
own attributes file turns off export-ignore and export-subst, which only archives apply. Every file belongs to root and
has the time of the commit. pybuild lists the tree first: a repository with too many files then fails early, after a few
million lines of the list.
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
from pybuild.values.limits import CONTEXT_BYTES, CONTEXT_ENTRIES

if TYPE_CHECKING:
    from pybuild.remote.git.process import Git

ATTRIBUTES = "* -export-ignore -export-subst\n"
_SUBMODULE_MODE = b"160000"
_CHUNK = 1 << 18


@frozen
class Submodule:
    """A commit of another repository, and the path in the tree where its files belong."""

    path: bytes
    commit: str


class Archive:
    """Writes a tar, with its digest and size. `name` is the repository in messages."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._hasher = hashlib.sha256()
        self._entries = 0
        self._most = CONTEXT_BYTES.value
        self.size = 0

    def member(self, name: bytes, kind: bytes, mode: int, size: int, mtime: int, link: bytes = b"") -> None:
        """Write the header of a member; `write` and `pad` add its content."""
        self._entries += 1
        if self._entries > CONTEXT_ENTRIES.value:
            raise _too_many(self._name)
        self.write(entry_header(name, kind, mode=mode, uid=0, gid=0, size=size, mtime=mtime, link=link))

    def write(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self._most:
            raise _too_large(self._name)
        self._hasher.update(data)
        self._file.write(data)

    def pad(self, size: int) -> None:
        """End the content of a member of `size` bytes."""
        self.write(bytes(-size % tar.BLOCK))

    def end(self) -> str:
        """Finish the tar; return its digest as text."""
        self.write(tar.END)
        return f"sha256:{self._hasher.hexdigest()}"


def _too_many(repository: str) -> RemoteError:
    return CONTEXT_ENTRIES.exceeded(RemoteError, f"{repository}: more than the limit of {{}} files")


def _too_large(repository: str) -> RemoteError:
    return CONTEXT_BYTES.exceeded(RemoteError, f"{repository}: the files exceed the limit of {{}}")


def submodules_of(git: Git, commit: str) -> list[Submodule]:
    """The submodules in a commit's tree. Raises RemoteError if the tree is too large or has names that git refuses."""
    found = []
    count = size = 0
    most_files, most_bytes = CONTEXT_ENTRIES.value, CONTEXT_BYTES.value
    left = b""
    with git.start("ls-tree", "-r", "-t", "-l", "-z", "--full-tree", f"{commit}^{{commit}}") as running:
        while data := running.read(_CHUNK):
            *lines, left = (left + data).split(b"\0")
            for line in lines:
                words, _, path = line.partition(b"\t")
                mode, _, name, length = words.split()
                count += 1
                size += int(length) if length.isdigit() else 0
                if count > most_files:
                    raise _too_many(git.name)
                if size > most_bytes:
                    raise _too_large(git.name)
                _check_path(git.name, path)
                if mode == _SUBMODULE_MODE:
                    found.append(Submodule(path, name.decode("ascii")))
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
                _check_path(git.name, path)
                directory = member.type == tar.DIRECTORY
                name = prefix + path + (b"/" if directory else b"")
                archive.member(name, member.type, member.mode, member.size, member.mtime, member.linkname)
                for piece in reader.data():
                    archive.write(piece)
                archive.pad(member.size)
        except InvalidImage as error:
            running.finish()  # git's own error, if there is one, says more
            raise RemoteError(f"{git.name}: {error}", hint=error.hint) from None
        running.finish()


def _check_path(name: str, path: bytes) -> None:
    """Refuse names that git does not check out: `.git` is for the repository itself. No other name is special here."""
    for part in path.split(b"/"):
        if part in (b"", b".", b"..") or part.lower() == b".git":
            raise RemoteError(f"{name}: the repository has a file {show(path)}, a name that git does not check out")
