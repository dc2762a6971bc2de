"""Where images come from, for FROM, COPY --from and every other place that names one: the store, else a registry."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.options import Pull
from store.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.events import Event
    from builder.options import BuildOptions
    from builder.workers.pool import Pool
    from store.images import Image
    from store.reference import Reference
    from store.store import Store


class Images:
    """The images of one build. A name that is asked for twice means the same image both times."""

    def __init__(self, store: Store, pool: Pool, options: BuildOptions, observe: Callable[[Event], None]) -> None:
        self._store = store
        self._pool = pool
        self._options = options
        self._observe = observe
        self._found: dict[Reference, Image] = {}

    def image(self, reference: Reference) -> Image:
        """The image of that name for the build's platform. Raises StoreError."""
        reference = reference.with_default_tag()
        if reference not in self._found:
            self._found[reference] = self._find(reference)
        return self._found[reference]

    def _find(self, reference: Reference) -> Image:
        if self._options.pull is not Pull.ALWAYS:
            digest = self._store.images.resolve(reference)
            if digest is not None:
                return self._store.images.get(digest)
            if self._options.pull is Pull.NEVER:
                raise NotFound(
                    "not in the store, and --pull=never", hint="pybuild import ARCHIVE NAME brings an image in"
                )
        # Only here: a build whose images are all in the store needs none of this.
        from builder.pull import pull, registry_access

        access = registry_access(os.environ, tls_verify=self._options.tls_verify)
        return pull(self._store, self._pool, reference, self._options.platform, access, self._observe)
