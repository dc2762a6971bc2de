"""pybuild copy: an image from one place to another, without reading its layers; nothing is sent that is there already.

    source       registry · store · archive · layout      all documents first, checked by their digests
    target       registry · store · archive · layout      asked what it has; blobs, then documents, then the name

Between two registries a blob passes through a worker in pieces of 64 KiB and is checked on the way; only its last piece,
which completes the upload, waits for the digest. No manifest is written anew, so the digest of the image stays.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from pybuild.builder.events import Copied, Note, Pushed, Transfer
from pybuild.builder.jobs.transfer import CompareTags
from pybuild.builder.output.push import push
from pybuild.builder.sources.registry_access import registry_access
from pybuild.builder.transfer.file_target import FileTarget
from pybuild.builder.transfer.places import RegistryPlace, StorePlace
from pybuild.builder.transfer.registry_target import RegistryTarget
from pybuild.builder.transfer.source import opened_source
from pybuild.builder.transfer.store_target import StoreTarget
from pybuild.builder.transfer.workshop import CopyWorkshop
from pybuild.store.formats.digest import Digest
from pybuild.store.formats.image_graph import for_platform, read_graph
from pybuild.store.formats.platform import Platform
from pybuild.store.importing.archived import ArchiveKind, ArchivePlace
from pybuild.store.objects.indexes import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pybuild.builder.events import Event
    from pybuild.builder.jobs.registry import RegistryAccess
    from pybuild.builder.transfer.places import CopyPlace
    from pybuild.builder.transfer.source import CopySource


def copy_image(
    root: str,
    source: CopyPlace,
    destination: CopyPlace,
    platform: Platform | None,
    environ: Mapping[str, str],
    observe: Callable[[Event], None],
    *,
    tls_verify: tuple[bool, bool] = (True, True),
) -> Digest:
    """Copy an image, an index with everything in it, or the image for one platform. Returns the digest of what was copied.

    `tls_verify` is for the registry of the source and that of the destination; `root` is the store. Raises BuildError,
    StoreError, RemoteError, OSError; then the destination shows what it showed before.
    """
    writes = isinstance(destination, StorePlace)
    with CopyWorkshop(root, observe, writes=writes) as work:
        if writes or isinstance(source, StorePlace):
            work.open_store()
        access, to = (registry_access(environ, work.ingest, tls_verify=verify) for verify in tls_verify)
        target = _target(destination, to)
        if isinstance(source, StorePlace) and isinstance(target, RegistryTarget) and target.name.digest is None:
            return _push(source, target, platform, work)
        if isinstance(source, RegistryPlace) and isinstance(target, RegistryTarget) and platform is None:
            same = _same_already(source, access, target, work)
            if same is not None:
                observe(Copied(str(source), str(destination), str(same), 0, 0))
                return same
        with opened_source(source, platform, access, work) as found:
            if isinstance(target, FileTarget) and target.place.kind is ArchiveKind.DOCKER_ARCHIVE:
                found = _one_platform(found, work)
            target.check(found)
            _note_left_out(found, work)
            moved = target.write(found, work)
            digest = found.graph.root.descriptor.digest
            observe(Copied(str(source), str(destination), str(digest), moved.sent, moved.spared))
            return digest


def _push(source: StorePlace, target: RegistryTarget, platform: Platform | None, work: CopyWorkshop) -> Digest:
    """Copy from the store as a push does, which knows where its layers came from."""

    def observe(event: Event) -> None:
        if isinstance(event, Pushed):
            event = Copied(str(source), f"docker://{event.name}", event.manifest, event.sent, event.spared)
        elif isinstance(event, Transfer) and event.verb == "pushed":
            event = replace(event, verb="copied")
        work.observe(event)

    image, _ = work.store.indexes.find(source.name, platform)
    push(work.store, work.pool, image, [target.name], target.access, observe)
    return digest_of(image)


def _target(place: CopyPlace, access: RegistryAccess) -> RegistryTarget | StoreTarget | FileTarget:
    match place:
        case RegistryPlace(reference=reference):
            return RegistryTarget(reference, access)
        case StorePlace(name=name):
            return StoreTarget.at(name)
        case ArchivePlace():
            return FileTarget.at(place)
        case _:
            assert_never(place)


def _same_already(
    source: RegistryPlace, access: RegistryAccess, target: RegistryTarget, work: CopyWorkshop
) -> Digest | None:
    """The digest of both names if they mean the same: registries do not count this question as a download."""
    name = target.name
    if name.tag is None or name.digest is not None:
        return None
    from_, to = source.reference, target.repository
    sources = (from_.path,) if from_.domain == to.domain and from_.path != to.path else ()
    question = CompareTags(access, str(from_), target.access, str(to), sources, name.tag)
    found = work.pool.run(question).digest
    return Digest.parse(found) if found else None


def _one_platform(source: CopySource, work: CopyWorkshop) -> CopySource:
    """The source, or the image for this machine if the source is an index: a docker archive holds no index."""
    graph = source.graph
    if not graph.root.is_index:
        return source
    host = Platform.host()
    chosen = for_platform(graph.root.descriptor, host, source.shown, graph.read, graph.read)
    work.observe(Note(f"a docker archive holds one platform: of {source.shown} it gets {host}"))
    return replace(source, graph=read_graph(chosen, graph.read))


def _note_left_out(source: CopySource, work: CopyWorkshop) -> None:
    if left_out := source.graph.left_out:
        size = len(left_out)
        what = "1 layer is" if size == 1 else f"{size} layers are"
        work.observe(Note(f"{what} not for distribution and not copied; the manifest still names their URLs"))
