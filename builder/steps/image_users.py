"""The users and groups of an image, from its /etc/passwd and /etc/group."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.builder.errors import BuildError
from pybuild.builder.files.passwd import UserDatabase
from pybuild.store.formats.toc import Kind
from pybuild.store.layers.view import LinkLoop
from pybuild.values.limits import PASSWD_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.builder.files.layer_contents import LayerPlace
    from pybuild.builder.session import Session
    from pybuild.store.formats.toc import Entry
    from pybuild.store.layers.view import View


class ImageUsers:
    """The users that the steps of one build see. A file that many steps share is read once."""

    def __init__(self, session: Session) -> None:
        self._store = session.store
        self._pool = session.pool
        self._files: dict[bytes, bytes] = {}  # sha256 -> content

    async def of(self, view: View, layers: Sequence[LayerPlace]) -> UserDatabase:
        """The users of the root filesystem that these layers make. Raises BuildError, StoreError."""
        return UserDatabase(await self._read(view, layers, b"etc/passwd"), await self._read(view, layers, b"etc/group"))

    async def _read(self, view: View, layers: Sequence[LayerPlace], path: bytes) -> bytes:
        """The content of a small regular file of the image; empty if there is no such file."""
        name = "/" + path.decode("ascii")
        try:
            located = view.locate(view.resolve(path))
        except LinkLoop:
            raise BuildError(f"{name} of the image has too many levels of symbolic links") from None
        if located is None:
            return b""
        toc, entry = located
        if entry.kind is not Kind.FILE:
            raise BuildError(f"{name} of the image is not a regular file")
        if entry.size > PASSWD_BYTES.value:
            raise PASSWD_BYTES.exceeded(BuildError, f"{name} of the image exceeds the limit of {{}}")
        found = self._files.get(entry.sha256)
        if found is None:
            found = await self._read_file(layers, view.layers.index(toc), entry)
            if entry.sha256:  # empty while the layer is still being written
                self._files[entry.sha256] = found
        return found

    async def _read_file(self, layers: Sequence[LayerPlace], layer: int, entry: Entry) -> bytes:
        from pybuild.builder.jobs.step import ReadFile

        job = ReadFile(tuple(layers), layer, os.fsdecode(entry.path), self._store.ingest.new_path())
        try:
            return bytes.fromhex(job.run().hex)
        except PermissionError:
            # The file lies behind a directory that only ids of the namespace can enter.
            return bytes.fromhex((await self._pool.job(job)).hex)
