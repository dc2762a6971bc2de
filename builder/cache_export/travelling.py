"""What a build does for --cache-to: the cache inside its image, and caches in registries and directories."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from pybuild.builder.cache_places import CacheMode, InlineCache
from pybuild.builder.errors import BuildError, LayerUnavailable
from pybuild.builder.events import Note
from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pybuild.builder.cache_export.mounts import MountSaver
    from pybuild.builder.cache_places import LocalCache, RegistryCache
    from pybuild.builder.caches.caches import Caches
    from pybuild.builder.plan.graph import Plan, PlannedStage
    from pybuild.builder.session import Session
    from pybuild.builder.solve.cache import BuildCache
    from pybuild.store.formats.bounded_json import Json
    from pybuild.store.formats.compression import Compression
    from pybuild.store.formats.digest import Digest
    from pybuild.store.objects.changesets import LayerBlob


@contextmanager
def _errors_of(place: RegistryCache | LocalCache) -> Iterator[None]:
    try:
        yield
    except LayerUnavailable:
        raise  # the plan is solved again
    except PybuildError as error:
        raise BuildError(f"cannot write the cache {place}: {error}", hint=error.hint) from error


class TravellingCaches:
    """The caches that one build writes. The steps of its plan are made."""

    def __init__(self, session: Session, plan: Plan, cache: BuildCache, caches: Caches) -> None:
        """`caches` are those that the build reads."""
        self._session = session
        self._caches = caches
        self._plan = plan
        self._cache = cache

    def inline(self, image: PlannedStage, layers: Sequence[LayerBlob], compression: Compression) -> Mapping[str, Json]:
        """The member of an image's config, if an inline cache is wanted: the records of the image's own steps.

        `layers` are all layers of the image, which its steps have in this `compression`.
        """
        if not any(isinstance(export.place, InlineCache) for export in self._session.options.cache_to):
            return MappingProxyType({})
        from pybuild.builder.cache_export.collect import collect
        from pybuild.builder.steps.new_layers import nodes_below
        from pybuild.store.formats.cache_index import CachedLayer, without_times
        from pybuild.store.formats.oci_config import CACHE_MEMBER

        plan = self._plan
        index = collect(
            self._session,
            plan,
            self._cache,
            CacheMode.MIN,
            compression,
            reproducible=True,
            only=nodes_below(plan, image),
        ).index
        held = [CachedLayer(layer.diff_id, layer.digest, layer.size, layer.compression) for layer in layers]
        return {CACHE_MEMBER: without_times(index).to_member(held)}

    def export(self, compression: Compression) -> None:
        """Write all other caches. A failure is a note, unless the user wants it to fail the build."""
        session = self._session
        exports = [export for export in session.options.cache_to if not isinstance(export.place, InlineCache)]
        if not exports:
            return
        from pybuild.builder.cache_export.collect import collect
        from pybuild.builder.cache_export.mounts import MountSaver
        from pybuild.builder.cache_export.tables import pack_tables
        from pybuild.builder.cache_export.write import write_cache

        saver = MountSaver(session, self._plan, self._caches.seeded_mounts)
        for export in exports:
            assert not isinstance(export.place, InlineCache)
            try:
                with _errors_of(export.place):
                    found = collect(session, self._plan, self._cache, export.mode, export.compression or compression)
                    packed = pack_tables(session, found.stacks, partial(self._caches.has_table, export.place))
                index = replace(found.index, tables=packed.tables)
                path_of = partial(self._path_of, packed.paths, saver)
                written = write_cache(
                    export, index, path_of, session.store, session.pool, session.observe,
                    tls_verify=session.options.tls_verify, platform=session.options.platform,
                    mounts=saver.to_add(export), lost=self._caches.lost,
                )  # fmt: skip
                saver.remember(written.mounts)
            except LayerUnavailable:
                raise
            except PybuildError as error:
                if not export.ignore_error:
                    raise
                session.observe(Note(str(error)))
        saver.close()

    def _path_of(self, packs: Mapping[Digest, str], saver: MountSaver, digest: Digest) -> str | None:
        store = self._session.store
        if store.blobs.has(digest):
            return store.blobs.path(digest)
        return packs.get(digest) or saver.path_of(digest)
