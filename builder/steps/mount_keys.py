"""The keys of cache mounts: by which the store finds one, and by which caches of other machines do."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.builder.plan.graph import PlannedCacheMount


@frozen
class MountKeys:
    """Two digests. `here` says under which id map the files are; `anywhere` does not, because layers have all owners."""

    here: str
    anywhere: str


def mount_keys(mount: PlannedCacheMount, seed: str, id_map: str) -> MountKeys:
    """The keys of a cache mount: digests of its name, owner, mode and initial content. `seed`: the digest of that, or ""."""
    fields = (mount.name, mount.mode, mount.uid, mount.gid, seed)
    return MountKeys(_digest((*fields, id_map)), _digest(fields))


def _digest(fields: tuple[object, ...]) -> str:
    return hashlib.sha256(json.dumps(fields).encode("ascii")).hexdigest()
