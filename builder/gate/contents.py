"""The content of some files of an image, from the tars of its layers. Nothing is unpacked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage
from pybuild.store.formats import tar
from pybuild.store.formats.toc import Kind
from pybuild.store.layers.errors import layer_errors
from pybuild.store.layers.read import clean_path
from pybuild.store.layers.view import LinkLoop, View
from pybuild.values.limits import PASSWD_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.store.importing.archived import ReadableImage
    from pybuild.store.system.streams import Readable


def files_of(image: ReadableImage, layer: int, smallest: int, largest: int) -> Iterator[tuple[bytes, bytes]]:
    """Path and content of each file of a layer that has from `smallest` to `largest` bytes.

    Paths are relative to the root, and as the tar has them: a link among their parents is not followed. A file that the
    tar has twice comes twice. Raises StoreError if the layer is damaged.
    """
    with layer_errors(image.layers[layer].diff_id), image.open_tar(layer) as stream:
        yield from _files(stream, smallest, largest)


def _files(stream: Readable, smallest: int, largest: int) -> Iterator[tuple[bytes, bytes]]:
    reader = tar.TarReader(stream)
    for member in reader:
        if member.type == tar.REGULAR and smallest <= member.size <= largest:
            yield clean_path(member.name), b"".join(reader.data())


def read_file(image: ReadableImage, view: View, path: bytes) -> bytes:
    """The content of a file of the image; b"" if there is no such file. Links are followed inside the root.

    `view` is the view of all its layers. Raises StoreError if the layer is damaged or the file is too large.
    """
    try:
        located = view.locate(view.resolve(path))
    except LinkLoop:
        return b""
    if located is None or located[1].kind is not Kind.FILE or not located[1].size:
        return b""
    toc, entry = located
    number = len(view.layers) - 1 - next(n for n, layer in enumerate(view.layers) if layer is toc)
    if entry.size > PASSWD_BYTES.value:
        raise PASSWD_BYTES.exceeded(InvalidImage, f"/{path.decode()} exceeds the limit of {{}}")
    wanted = toc.find(entry.hardlink) or entry if entry.hardlink else entry
    content = b""
    with layer_errors(image.layers[number].diff_id), image.open_tar(number) as stream:
        reader = tar.TarReader(stream)
        for member in reader:
            if member.type != tar.REGULAR or member.size != entry.size:
                continue
            if wanted.offset >= 0:
                if member.offset == wanted.offset:
                    return b"".join(reader.data())
            elif clean_path(member.name) == wanted.path:
                content = b"".join(reader.data())  # of several members with one name the last one counts
    return content
