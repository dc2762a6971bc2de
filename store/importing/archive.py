"""Bringing images into the store: OCI layouts, docker archives, and root filesystems as a plain tar.

What a file holds is told by the names in it. A whole archive may be compressed with gzip, zstd, xz or bzip2; what
comes through a pipe, and what is compressed, is written to the ingest directory first.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage, NameNeeded, NotFound
from pybuild.store.formats.compression import DecompressingReader
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.media_types import LAYER_TYPES, MediaType
from pybuild.store.formats.oci_config import ExecConfig, History, ImageConfig
from pybuild.store.formats.oci_layout import LAYOUT
from pybuild.store.formats.oci_manifest import Descriptor, Manifest
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.reference import Reference
from pybuild.store.importing.choice import choose
from pybuild.store.importing.detect import ArchiveForm, form_of
from pybuild.store.importing.docker_archive import saved_offers, take_saved_image
from pybuild.store.importing.intake import LayerStack, take_image
from pybuild.store.importing.members import ArchiveMembers, DirectoryMembers
from pybuild.store.importing.oci_layout import LayoutBlobs, layout_offers, manifest_of
from pybuild.store.importing.outer_compression import is_packed, without_outer
from pybuild.store.system.disk_full import no_space
from pybuild.store.system.streams import Peeked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from pybuild.store.importing.members import Members
    from pybuild.store.store import Store
    from pybuild.store.system.streams import Readable

STDIN = "-"
_CHUNK = 1 << 20
Imported = list[tuple[Digest, list[Reference]]]


def import_archive(
    store: Store, path: str, name: Reference | None, now: int, platform: Platform | None = None
) -> Imported:
    """Import the archive or layout directory at `path`, or standard input; return each manifest's digest with its names.

    `name` chooses one of several images and is what it is called here; a root filesystem needs one. Of images that differ
    in their platform alone the one for `platform` comes in, and a root filesystem is for it: None is this machine's.
    Raises StoreError, OSError; nothing of an archive is visible then.
    """
    wanted = platform or Platform.host()
    try:
        if path != STDIN and os.path.isdir(path):
            with DirectoryMembers(path) as members:
                if LAYOUT not in members:
                    raise InvalidImage(
                        f"the directory {path} is no OCI layout: it has no oci-layout",
                        hint="a root filesystem comes in as a tar: tar -C DIR -c . | pybuild import - NAME",
                    )
                found = _import_layout(store, members, name, wanted)
        else:
            with _opened(store, path) as file:
                found = _import_file(store, "standard input" if path == STDIN else path, file, name, wanted)
        store.seal()
    except OSError as error:
        raise no_space(error, store.root) from error
    for digest, names in found:
        store.images.tag(names, digest, now, recipe=f"import {os.path.basename(path)}")
    return found


def take_from_layout(store: Store, path: str, tag: str | None, digest: Digest | None) -> Digest:
    """Take one image of a layout directory in, without giving it a name: the one with this tag or digest, or the only one.

    Returns the manifest's digest. Raises StoreError.
    """
    try:
        with DirectoryMembers(path) as members:
            if LAYOUT not in members:
                raise InvalidImage(f"the directory {path} is no OCI layout: it has no oci-layout")
            offers = layout_offers(members)
            if digest is not None:
                offers = [offer for offer in offers if offer.item.digest == digest]
            elif tag is not None:
                offers = [offer for offer in offers if tag in (offer.tag, *(name.tag for name in offer.names))]
            if not offers:
                raise NotFound(f"the layout {path} has no image {digest or tag}")
            host = Platform.host()
            (choice,) = choose(offers, Reference.parse("context"), host)
            blobs = LayoutBlobs(members)
            return take_image(store, blobs, manifest_of(blobs, choice.item, host))
    except OSError as error:
        raise no_space(error, store.root) from error


@contextmanager
def _opened(store: Store, path: str) -> Iterator[BinaryIO]:
    """A file that can be read at any place; what a pipe brings is written to the ingest directory."""
    with open(path, "rb") if path != STDIN else os.fdopen(os.dup(sys.stdin.fileno()), "rb") as file:
        regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        if regular and os.lseek(file.fileno(), 0, os.SEEK_CUR) == 0:
            yield file
        else:
            with _spooled(store, file) as spool:
                yield spool


@contextmanager
def _spooled(store: Store, stream: Readable) -> Iterator[BinaryIO]:
    path = store.ingest.new_path()
    try:
        with open(path, "x+b") as spool:
            while data := stream.read(_CHUNK):
                spool.write(data)
            spool.flush()
            spool.seek(0)
            yield spool
    finally:
        os.unlink(path)


def _import_file(store: Store, shown: str, file: BinaryIO, name: Reference | None, wanted: Platform) -> Imported:
    peeked = Peeked(file)
    if not peeked.start:
        raise InvalidImage("the archive is empty")
    packed = is_packed(peeked.start)
    form = form_of(DecompressingReader(without_outer(peeked)))
    file.seek(0)
    if form is ArchiveForm.ROOTFS:
        if name is None:
            raise NameNeeded(
                f"{shown} holds a root filesystem, which has no name", hint="give one: pybuild import FILE NAME"
            )
        return [(_import_rootfs(store, file, wanted), [name])]
    with _spooled(store, DecompressingReader(without_outer(Peeked(file)))) if packed else nullcontext(file) as plain:
        if form is ArchiveForm.LAYOUT:
            return _import_layout(store, ArchiveMembers(plain), name, wanted)
        return _import_saved(store, ArchiveMembers(plain, links=True), name, wanted)


def _import_layout(store: Store, members: Members, name: Reference | None, wanted: Platform) -> Imported:
    blobs = LayoutBlobs(members)
    # Names and indexes first: what is wrong with them shall come out before the work on the layers.
    chosen = [
        (manifest_of(blobs, choice.item, wanted), choice.names)
        for choice in choose(layout_offers(members), name, wanted)
    ]
    found: dict[Digest, list[Reference]] = {}
    taken: dict[Digest, Digest] = {}
    for descriptor, names in chosen:
        if descriptor.digest not in taken:
            taken[descriptor.digest] = take_image(store, blobs, descriptor)
        known = found.setdefault(taken[descriptor.digest], [])
        known += [given for given in names if given not in known]
    return list(found.items())


def _import_saved(store: Store, members: Members, name: Reference | None, wanted: Platform) -> Imported:
    found: dict[Digest, list[Reference]] = {}
    for choice in choose(saved_offers(members), name, wanted):
        known = found.setdefault(take_saved_image(store, members, choice.item), [])
        known += [given for given in choice.names if given not in known]
    return list(found.items())


def _import_rootfs(store: Store, file: BinaryIO, wanted: Platform) -> Digest:
    """A tar of files becomes an image of one layer. Its bytes stay as they are: only compression is added."""
    stack = LayerStack(store)
    blob = stack.put_tar(file, None)
    config = ImageConfig(
        architecture=wanted.architecture,
        os=wanted.os,
        variant=wanted.variant,
        created=None,
        author="",
        config=ExecConfig(),
        diff_ids=(blob.diff_id,),
        history=(History(created=None, created_by="import of a root filesystem"),),
    )
    config_bytes = config.to_bytes()
    manifest = Manifest(
        config=Descriptor(MediaType.OCI_CONFIG, Digest.of(config_bytes), len(config_bytes)),
        layers=(Descriptor(LAYER_TYPES[blob.compression], blob.digest, blob.size),),
        media_type=MediaType.OCI_MANIFEST,
    )
    return store.images.add(manifest.to_bytes(), config_bytes, stack.snapshot, stack.scratch())
