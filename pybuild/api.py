"""Building from Python. The command does the same: it makes a request from its options and calls `run`.

A build runs in the thread of its caller. So it passes events to a callable: an iterator over events would need a second
thread. An exception that the callable raises ends the build.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.builder.build import BuildRequest
from pybuild.builder.build import build as _build
from pybuild.builder.events import CheckWarning, Note, ignore
from pybuild.builder.options import BuildOptions
from pybuild.builder.sources.contexts import context_name
from pybuild.defaults import default_keep_storage, default_root
from pybuild.image import Image
from pybuild.store.exporting.publish import nothing
from pybuild.store.formats.reference import Reference
from pybuild.store.store import Access, Store
from pybuild.user_limits import user_limits
from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pybuild.builder.events import Event
    from pybuild.builder.output.export import Output
    from pybuild.store.formats.platform import Platform


def build(
    context: str | os.PathLike[str] = ".",
    recipe: str | None = None,
    *,
    options: BuildOptions | None = None,
    contexts: Mapping[str, str] | None = None,
    tags: Iterable[str] = (),
    outputs: Iterable[Output] = (),
    root: str | os.PathLike[str] | None = None,
    keep_storage: int | None = None,
    on_event: Callable[[Event], None] = ignore,
) -> Image:
    """Build an image. `root` is the directory of the store, `keep_storage` the most bytes that it holds afterwards.

    Their defaults are the environment variables PYBUILD_ROOT and PYBUILD_KEEP_STORAGE, as for the command. The other
    arguments are those of `pybuild build`. Raises ParseError, BuildError (StepFailed if a RUN ends with a status other
    than 0), StoreError, RemoteError, OSError, and ValueError for an invalid environment variable. After an error the
    store is intact and no process of the build is running.
    """
    request = _request(context, recipe, options, contexts, tags, outputs)
    limit = default_keep_storage() if keep_storage is None else keep_storage
    with user_limits(os.environ), _store(root) as store:
        return run(request, store, on_event, limit)


def check(
    context: str | os.PathLike[str] = ".",
    recipe: str | None = None,
    *,
    options: BuildOptions | None = None,
    contexts: Mapping[str, str] | None = None,
    root: str | os.PathLike[str] | None = None,
    on_event: Callable[[Event], None] = ignore,
) -> list[CheckWarning]:
    """The warnings about a recipe, of all stages or those of the target; runs no step and fetches no image.

    Raises ParseError, BuildError, StoreError, RemoteError or OSError if the recipe cannot be built at all: for the first
    mistake, after `on_event` has had all warnings, and a Note about each base and line that was not judged.
    """
    from pybuild.builder.check import check as check_recipe

    with user_limits(os.environ), _store(root) as store:
        found = check_recipe(_request(context, recipe, options, contexts), store, on_event)
    for text in found.notes:
        on_event(Note(text))
    warnings = [CheckWarning(w.rule, w.message, found.source, w.span) for w in found.warnings]
    for warning in warnings:
        on_event(warning)
    if found.mistakes:
        raise found.mistakes[0]
    return warnings


def run(
    request: BuildRequest,
    store: Store,
    on_event: Callable[[Event], None],
    keep_storage: int | None = None,
    complete: Callable[[], None] = nothing,
) -> Image:
    """Build in a store that is open. With `keep_storage` None the store can have any size. `complete` as for `build`."""
    image = Image.of(store.root, _build(request, store, on_event, complete), request.tags)
    if keep_storage is not None and store.obstacle is None:
        _keep_within(keep_storage, store, on_event)
    return image


def open_image(name: str, root: str | os.PathLike[str] | None = None, platform: Platform | None = None) -> Image:
    """The image with this name or digest in the store; of several the one for `platform`.

    Without a platform it is what the name was given last, which can be an index. Raises NotFound, StoreError.
    """
    with user_limits(os.environ), _store(root) as store:
        stored, reference = store.indexes.find(name, platform)
        return Image.of(store.root, stored, (reference,) if reference else ())


def _store(root: str | os.PathLike[str] | None) -> Store:
    return Store(os.fspath(root) if root is not None else default_root(), Access.READ)


def _request(
    context: str | os.PathLike[str],
    recipe: str | None,
    options: BuildOptions | None,
    contexts: Mapping[str, str] | None,
    tags: Iterable[str] = (),
    outputs: Iterable[Output] = (),
) -> BuildRequest:
    return BuildRequest(
        context=os.fspath(context),
        recipe=recipe,
        options=options or BuildOptions(),
        contexts={context_name(name): place for name, place in (contexts or {}).items()},
        tags=tuple(Reference.parse(tag).with_default_tag() for tag in tags),
        outputs=tuple(outputs),
    )


def _keep_within(limit: int, store: Store, on_event: Callable[[Event], None]) -> None:
    """Free what exceeds the limit (bytes). The build has succeeded already, so an error becomes a note."""
    from pybuild.builder.maintenance import collect_above
    from pybuild.builder.workers.pool import Pool
    from pybuild.progress import human_size

    try:
        with Pool() as pool:
            freed = collect_above(store, pool, limit)
    except (PybuildError, OSError) as error:
        on_event(Note(f"cannot keep the store within its limit: {error}"))
        return
    if freed is not None and freed.size:
        on_event(Note(f"{human_size(freed.size)} freed to keep the store within {human_size(limit)}"))
