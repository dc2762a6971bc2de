"""Which build the user means: for `pybuild why` and `pybuild logs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage, NotFound
from pybuild.store.objects.builds import matching_build
from pybuild.store.objects.indexes import digest_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.store.store import Store


def chosen_build(store: Store, ids: Sequence[str], name: str | None, command: str) -> str:
    """One of `ids` (the oldest first): the last one, one by the beginning or end of its id, or the last that made an image.

    `name` is that part of the id, or a name or digest of the image; None and "last" mean the last build. `command` is the
    one whose --list shows the builds. Raises NotFound if there is none, StoreError if several ids match.
    """
    hint = f"pybuild {command} --list shows the builds" if ids else None
    if name is None or name == "last":
        if not ids:
            raise NotFound("the store has no record of any build")
        return ids[-1]
    if found := matching_build(ids, name):
        return found
    try:
        found_image = store.indexes.find(name)[0]
    except (NotFound, InvalidImage):
        raise NotFound(f"{name} is neither the id of a build nor an image", hint=hint) from None
    made = [build for build in store.builds.that_made(str(digest_of(found_image))) if build in ids]
    if not made:
        raise NotFound(f"{name}: none of the last builds made this image", hint=hint)
    return made[-1]
