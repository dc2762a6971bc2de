"""Pushing an image to registries: the blobs that they lack, several at a time, and at the end the manifest.

No name shows the image before every repository has all of it, so a push that ends early publishes nothing. A layer that
the store knows to be in another repository of the registry is not sent: the registry takes it from there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.builder.errors import BuildError
from pybuild.builder.events import Pushed, Transfer
from pybuild.builder.jobs.push import FindMissing, OutgoingBlob, PushBlobs, PushManifest
from pybuild.builder.sources.pull import shares
from pybuild.store.errors import NotFound
from pybuild.store.formats.reference import Reference
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pybuild.builder.events import Event
    from pybuild.builder.jobs.push import MissingParts
    from pybuild.builder.jobs.registry import RegistryAccess
    from pybuild.builder.workers.pool import Pool
    from pybuild.store.formats.digest import Digest
    from pybuild.store.objects.images import StoredImage
    from pybuild.store.store import Store

_AT_ONCE = 4  # blobs


@frozen
class _Target:
    """A repository and the tags that the image gets there."""

    repository: Reference  # without tag and digest
    tags: tuple[str, ...]


def push(
    store: Store,
    pool: Pool,
    image: StoredImage,
    names: Sequence[Reference],
    access: RegistryAccess,
    observe: Callable[[Event], None],
) -> None:
    """Make the image of these names in their registries the same as in the store. The names change last, all together.

    Raises BuildError, StoreError, RemoteError.
    """
    sizes = _blob_sizes(store, image)
    targets = _targets(names)
    missing = [_find_missing(pool, image, target, sizes, access) for target in targets]
    sources = _Sources(store, set(sizes))
    sent = []
    for target, parts in zip(targets, missing, strict=True):
        if parts.tags:
            blobs = _outgoing(store, parts, sizes, sources.of(target.repository))
            sent.append(_push_blobs(store, pool, target, blobs, access, observe))
            sources.add(target.repository, sizes)
        else:
            sent.append(0)
    for target, parts, size in zip(targets, missing, sent, strict=True):
        if parts.tags:
            path = store.blobs.path(image.manifest_digest)
            kind = image.manifest.media_type
            pool.run(PushManifest(access, str(target.repository), parts.tags, kind, path))
        spared = sum(sizes.values()) - size
        for tag in target.tags:
            name = replace(target.repository, tag=tag).familiar
            observe(Pushed(name, str(image.manifest_digest), size, spared))


def _blob_sizes(store: Store, image: StoredImage) -> dict[Digest, int]:
    """The blobs of an image and their sizes in bytes. Raises NotFound if the store lacks one."""
    blobs = {blob.digest: blob.size for blob in (image.manifest.config, *image.manifest.layers)}
    for digest in blobs:
        if not store.blobs.has(digest):
            raise NotFound(
                f"blob {digest} of the image is missing", hint="pybuild fsck lists everything that is damaged"
            )
    return blobs


def _targets(names: Sequence[Reference]) -> list[_Target]:
    """The names by repository. Raises BuildError for a name with a digest."""
    tags: dict[Reference, list[str]] = {}
    for name in names:
        full = name.with_default_tag()
        if full.digest is not None or full.tag is None:
            raise BuildError(f"cannot push to {name}: the image itself determines the digest", hint="give a tag")
        tags.setdefault(replace(full, tag=None), []).append(full.tag)
    return [_Target(repository, tuple(dict.fromkeys(found))) for repository, found in tags.items()]


def _find_missing(
    pool: Pool, image: StoredImage, target: _Target, sizes: Mapping[Digest, int], access: RegistryAccess
) -> MissingParts:
    digest, kind = str(image.manifest_digest), image.manifest.media_type
    return pool.run(FindMissing(access, str(target.repository), target.tags, digest, kind, tuple(map(str, sizes))))


class _Sources:
    """The repositories that are known to have blobs: those of pulled images, and those of this push."""

    def __init__(self, store: Store, wanted: set[Digest]) -> None:
        self._store = store
        self._wanted = wanted
        self._known: dict[str, dict[str, str]] = {}  # host -> digest -> repository

    def of(self, target: Reference) -> dict[str, str]:
        """For each blob a repository of the target's registry that has it. The target itself is left out."""
        return {blob: path for blob, path in self._of_host(target.domain).items() if path != target.path}

    def add(self, target: Reference, blobs: Mapping[Digest, int]) -> None:
        """The repository has these blobs now."""
        known = self._of_host(target.domain)
        for blob in blobs:
            known.setdefault(str(blob), target.path)

    def _of_host(self, host: str) -> dict[str, str]:
        if host not in self._known:
            self._known[host] = known = {}
            for tag in self._store.images.tags():
                name = Reference.parse(tag.name)
                if tag.recipe == "pull" and name.domain == host:
                    layers = self._store.images.get(tag.manifest).manifest.layers
                    known.update({str(layer.digest): name.path for layer in layers if layer.digest in self._wanted})
        return self._known[host]


def _outgoing(
    store: Store, parts: MissingParts, sizes: Mapping[Digest, int], sources: Mapping[str, str]
) -> list[OutgoingBlob]:
    """The blobs that the repository lacks, the largest first."""
    wanted = set(parts.blobs)
    blobs = [
        OutgoingBlob(str(digest), size, store.blobs.path(digest), sources.get(str(digest), ""))
        for digest, size in sizes.items()
        if str(digest) in wanted
    ]
    return sorted(blobs, key=lambda blob: -blob.size)


def _push_blobs(
    store: Store,
    pool: Pool,
    target: _Target,
    blobs: Sequence[OutgoingBlob],
    access: RegistryAccess,
    observe: Callable[[Event], None],
) -> int:
    """Upload blobs and report progress; return how many bytes were sent."""
    total = sum(blob.size for blob in blobs)
    jobs = [
        PushBlobs(access, str(target.repository), share, store.ingest.new_path()) for share in shares(blobs) if share
    ]

    def report() -> None:
        done = sum(_progress(job.progress) for job in jobs)
        observe(Transfer(target.repository.familiar, min(done, total), total, "pushed"))

    if not jobs:
        return 0
    return sum(done.sent for done in pool.run_many(jobs, _AT_ONCE, report))


def _progress(path: str) -> int:
    try:
        with open(path, "rb") as file:
            return int.from_bytes(file.read(), "little")
    except FileNotFoundError:
        return 0
