"""The job for a context in one file: find out whether it is an archive, and list the tar in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pybuild.builder.errors import BuildError
from pybuild.builder.files.archives import archive_in
from pybuild.store.errors import InvalidImage
from pybuild.store.formats.sparse import PlainTar
from pybuild.store.formats.tar import SparseMember
from pybuild.store.formats.toc import Toc
from pybuild.store.importing.outer_compression import is_compressed
from pybuild.store.layers.read import read_archive
from pybuild.store.layers.view import View
from pybuild.store.system.holes import create_sparse
from pybuild.store.system.streams import Peeked, Tee
from pybuild.values import frozen
from pybuild.values.limits import CONTEXT_BYTES, hint_beside

if TYPE_CHECKING:
    from pybuild.store.formats.toc import Entry


@frozen
class ListedContext:
    """The path of the tar that was listed; "" if the file is not an archive."""

    tar: str


@frozen
class ListContext:
    """Examine the file `raw`, which messages call `name`.

    If it is an archive, write its table of contents to `toc`; if it is compressed or has sparse files, write the plain
    tar to `tar`.
    """

    in_namespace: ClassVar[bool] = False
    raw: str
    name: str
    tar: str
    toc: str

    def run(self) -> ListedContext:
        with open(self.raw, "rb", buffering=0) as file:
            peeked = Peeked(file)
            packed = is_compressed(peeked.start)
            try:
                try:
                    entries = self._entries(peeked, packed=packed)
                except SparseMember:
                    file.seek(0)
                    packed, entries = True, self._plain_entries(Peeked(file))
            except InvalidImage as error:
                raise BuildError(
                    f"{self.name}: {error}",
                    hint=hint_beside("a context is a tar, plain or with gzip, bzip2, xz or zstd", error),
                ) from error
        if entries is None:
            return ListedContext("")
        Toc.write(self.toc, entries)
        return ListedContext(self.tar if packed else self.raw)

    def _entries(self, peeked: Peeked, *, packed: bool) -> list[Entry] | None:
        archive = archive_in(peeked, CONTEXT_BYTES)
        if archive is None:
            if packed:
                raise InvalidImage("the compressed file is not a tar archive")
            return None
        if not packed:
            return read_archive(archive, _nothing(), None)
        with create_sparse(self.tar) as tar:
            return read_archive(Tee(archive, tar.write), _nothing(), None)

    def _plain_entries(self, peeked: Peeked) -> list[Entry]:
        """The entries of an archive with sparse files, once `tar` has it without them."""
        archive = archive_in(peeked, CONTEXT_BYTES)
        assert archive is not None, "it was an archive before"
        with create_sparse(self.tar, "wb") as tar:
            return read_archive(Tee(PlainTar(archive, CONTEXT_BYTES), tar.write), _nothing(), None)


def _nothing() -> View:
    """What a context lies on."""
    return View([Toc.of([])])
