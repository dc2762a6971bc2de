"""A blob of an OCI layout in a directory, to which other users might be able to write."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, cast

from pybuild.store.errors import DigestMismatch, NotFound, StoreError
from pybuild.store.formats.oci_layout import blob_name
from pybuild.store.importing.chunk_reader import ChunkReader
from pybuild.store.importing.members import DirectoryMembers
from pybuild.store.objects.blobs import VerifyingReader, copy_verified
from pybuild.store.system.disk_full import no_space

if TYPE_CHECKING:
    from pybuild.store.formats.digest import Digest


def copy_blob(directory: str, digest: Digest, size: int, path: str) -> None:
    """Copy a blob to a new file, which is removed again if that fails. `size` is in bytes.

    Raises NotFound, InvalidImage if it is not a regular file, DigestMismatch, NoSpace, StoreError.
    """
    try:
        with DirectoryMembers(directory) as members:
            _copy(members, digest, size, path)
    except DigestMismatch:
        raise DigestMismatch(f"{directory}: the bytes of layer {digest} do not match its digest") from None
    except FileNotFoundError:
        raise NotFound(f"{directory}: there is no such directory any more") from None
    except OSError as error:
        translated = no_space(error, "the store", path=os.path.dirname(path))
        if translated is not error:
            raise translated from error
        raise StoreError(f"{directory}: cannot copy layer {digest}: {error.strerror}") from error


def _copy(members: DirectoryMembers, digest: Digest, size: int, path: str) -> None:
    name = blob_name(digest)
    if members.size(name) != size:
        raise DigestMismatch("its size is another one")
    chunks = ChunkReader(members.chunks(name))
    with open(path, "xb") as out:
        try:
            copy_verified(VerifyingReader(cast("BinaryIO", chunks), digest, size), out)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(path)
            raise
        finally:
            chunks.close()
