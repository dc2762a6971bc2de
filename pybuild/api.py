"""Building from Python. The command does the same: it makes a request of its options and calls `run`.

A build is one thread, and whoever calls it is that thread. So events go to a callable while the build goes on, and there
is no iterator over them, which would need a second one; what the callable raises ends the build.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.build import BuildRequest
from builder.build import build as _build
from builder.contexts import context_name
from builder.events import ignore
from builder.options import BuildOptions
from pybuild.image import Image
from store.reference import Reference
from store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from builder.events import Event
    from builder.outputs import Output


def default_root() -> str:
    """Where the store is unless PYBUILD_ROOT says otherwise: for root and for others."""
    from pybuild.cli import default_root as without_environment

    return os.environ.get("PYBUILD_ROOT") or without_environment()


def build(
    context: str | os.PathLike[str] = ".",
    recipe: str | None = None,
    *,
    options: BuildOptions | None = None,
    contexts: Mapping[str, str] | None = None,
    tags: Iterable[str] = (),
    outputs: Iterable[Output] = (),
    root: str | os.PathLike[str] | None = None,
    on_event: Callable[[Event], None] = ignore,
) -> Image:
    """Build an image; `root` is the directory of the store. All else is as `pybuild build` has it.

    Raises ParseError, BuildError (StepFailed where a RUN ended with another status than 0), StoreError, OSError; after
    any of them the store is whole, and nothing is left of what was running.
    """
    request = BuildRequest(
        context=os.fspath(context),
        recipe=recipe,
        options=options or BuildOptions(),
        contexts={context_name(name): place for name, place in (contexts or {}).items()},
        tags=tuple(Reference.parse(tag).with_default_tag() for tag in tags),
        outputs=tuple(outputs),
    )
    with Store(os.fspath(root) if root is not None else default_root()) as store:
        return run(request, store, on_event)


def run(request: BuildRequest, store: Store, on_event: Callable[[Event], None]) -> Image:
    """As `build`, in a store that is open."""
    return Image(store.root, store.images.get(_build(request, store, on_event).manifest))


def open_image(name: str, root: str | os.PathLike[str] | None = None) -> Image:
    """The image of that name or digest in the store. Raises NotFound, StoreError."""
    with Store(os.fspath(root) if root is not None else default_root()) as store:
        return Image(store.root, store.images.find(name))
