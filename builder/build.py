"""A build from beginning to end: recipe, bases, plan, steps, image, outputs.

Every mistake that the text alone shows is found before anything runs. The image and its tags become visible together,
after all that they name is sealed; an output appears under its name when it is whole.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from builder.changesets import ensure_compression, ensure_tar
from builder.context import read_ignore_file
from builder.errors import BuildError
from builder.image import assemble
from builder.imagesource import Images
from builder.leftovers import sweep_all
from builder.outputs import ImageOutput, Output, check_outputs, prepare, write_output
from builder.planner import plan
from builder.resolve import resolve
from builder.solver import Solver
from builder.steps import Steps
from builder.workers.copy_jobs import ContextSource
from builder.workers.pool import Pool
from parser import IgnoreFile, PatternError, parse, parse_trigger
from store.changeset import LayerBlob
from store.compression import Compression
from store.errors import NotFound
from store.files import open_in_root, read_regular
from store.layertypes import COMPRESSIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.events import Event
    from builder.options import BuildOptions
    from builder.plan import PlannedStage
    from builder.solver import Result
    from store.digest import Digest
    from store.images import Image
    from store.reference import Reference
    from store.store import Store

RECIPE_LIMIT = 4 << 20  # bytes
RECIPE_NAMES = ("Buildfile", "Dockerfile", "Containerfile")


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to build and what to do with it. Without outputs the image is kept in the store, and only there."""

    context: str  # a directory
    recipe: str | None  # a path; None: the first of RECIPE_NAMES in the context
    options: BuildOptions
    tags: tuple[Reference, ...] = ()
    outputs: tuple[Output, ...] = ()


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What came of it."""

    manifest: Digest


def build(request: BuildRequest, store: Store, observe: Callable[[Event], None]) -> BuildResult:
    """Build. Raises ParseError, BuildError, StoreError, OSError; after any of them the store is whole."""
    path, text = read_recipe(request.context, request.recipe)
    buildfile = parse(text, path, cache=_Parses(store))
    context = ContextSource(os.path.abspath(request.context), _ignore_text(request.context, path))
    check_outputs(request.outputs)
    compression = _compression(request.outputs)
    with Pool() as pool:
        if store.unswept:
            sweep_all(store, pool)
        read_trigger = partial(parse_trigger, cache=_Parses(store))
        images = Images(store, pool, request.options, observe)
        planned = plan(resolve(buildfile, request.options, images, read_trigger), request.options)
        steps = Steps(store, pool, request.options, context, compression, observe)
        results = Solver(planned, request.options, store, steps, observe).solve()
        finish = _Finish(request, store, pool, planned.image, results)
        digest = finish.store_image(compression)
        store.seal()
        if request.tags:
            store.images.tag(list(request.tags), digest, int(time.time()), recipe=path)
        for output in request.outputs:
            image = store.images.get(finish.store_image(_compression([output])))
            image = prepare(output, image, store, pool, all_layers=False)
            store.seal()
            write_output(output, image, request.tags, store, observe)
    return BuildResult(digest)


def _compression(outputs: Sequence[Output]) -> Compression:
    """The compression of new layers, for these outputs."""
    return next((output.wanted for output in outputs if isinstance(output, ImageOutput)), Compression.GZIP)


class _Finish:
    """From the solved plan to images, one for each compression that an output asks for."""

    def __init__(
        self, request: BuildRequest, store: Store, pool: Pool, stage: PlannedStage, results: Mapping[int, Result]
    ) -> None:
        self._request = request
        self._store = store
        self._pool = pool
        self._stage = stage
        self._results = results
        self._snapshot = None if stage.node is None else results[stage.node].snapshot

    def store_image(self, compression: Compression) -> Digest:
        """Make the layers that are missing, write config and manifest, store them. Idempotent."""
        options = self._request.options
        created = {node: result.created for node, result in self._results.items()}
        built = assemble(self._stage, self._layers(compression), created, options)
        scratch = (self._store.ingest.new_path(), self._store.ingest.new_path())
        return self._store.images.add(built.manifest, built.config, self._snapshot, scratch)

    def _layers(self, compression: Compression) -> list[LayerBlob]:
        """All layers, lowest first. Those of the base stay the blobs that came in."""
        base = self._stage.base
        layers = [] if base is None else _base_layers(self._store, base)
        changesets = self._store.snapshots.changesets(self._snapshot)[::-1]
        for changeset in changesets[len(layers) :]:
            blob = ensure_tar(self._store, self._pool, changeset, self._request.options.epoch, compression)
            layers.append(ensure_compression(self._store, self._pool, blob.diff_id, compression))
        return layers


def _base_layers(store: Store, base: Image) -> list[LayerBlob]:
    layers = []
    for descriptor, diff_id in zip(base.manifest.layers, base.config.diff_ids, strict=True):
        if not store.blobs.has(descriptor.digest):
            raise NotFound(
                f"layer {descriptor.digest} of the base image is missing",
                hint="pybuild fsck tells what else is damaged",
            )
        layers.append(LayerBlob(diff_id, descriptor.digest, descriptor.size, COMPRESSIONS[descriptor.media_type]))
    return layers


def read_recipe(context: str, recipe: str | None) -> tuple[str, bytes]:
    """Find and read the recipe; return its path, as messages show it, and its bytes. Raises BuildError.

    A recipe inside of the context is opened below the context's root: one that came with a hostile context cannot be a
    link to a file of this machine, which the messages would quote.
    """
    try:
        root = os.open(context, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BuildError(
            f"cannot open the context {context}: {error.strerror}", hint="it must be a directory"
        ) from error
    try:
        if recipe is None:
            for name in RECIPE_NAMES:
                data = _read_in(root, name, name)
                if data is not None:
                    return os.path.join(context, name) if context != "." else name, data
            raise BuildError(
                f"no {', '.join(RECIPE_NAMES[:-1])} or {RECIPE_NAMES[-1]} in {context}", hint="name the recipe with -f"
            )
        inside = os.path.relpath(os.path.abspath(recipe), os.path.abspath(context))
        if inside == ".." or inside.startswith("../"):
            data = _read_outside(recipe)
        else:
            data = _read_in(root, inside, recipe)
    finally:
        os.close(root)
    if data is None:
        raise BuildError(f"cannot open {recipe}: no such file")
    return recipe, data


def _read_in(root: int, path: str, shown: str) -> bytes | None:
    try:
        fd = open_in_root(root, os.fsencode(path), os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise BuildError(f"cannot open {shown}: {error.strerror}") from error
    return _read_and_close(fd, shown)


def _read_outside(path: str) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BuildError(f"cannot open {path}: {error.strerror}") from error
    return _read_and_close(fd, path)


def _read_and_close(fd: int, shown: str) -> bytes:
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BuildError(f"{shown} is not a regular file")
        return read_regular(fd, RECIPE_LIMIT, shown)
    finally:
        os.close(fd)


def _ignore_text(context: str, recipe: str) -> str | None:
    text = read_ignore_file(context, recipe)
    if text is not None:
        try:
            IgnoreFile.parse(text)
        except PatternError as error:
            raise BuildError(str(error)) from None
    return text


class _Parses:
    """The parse cache, in the store's tables."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, key: str) -> bytes | None:
        row = self._store.metadata.one("SELECT value FROM parses WHERE key = ?", key)
        return row[0] if row is not None and isinstance(row[0], bytes) else None

    def put(self, key: str, value: bytes) -> None:
        with self._store.metadata.transaction() as db:
            db.execute("INSERT OR REPLACE INTO parses VALUES (?, ?)", (key, value))
