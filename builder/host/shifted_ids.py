"""An id map in which the root of the steps is not the user that pybuild runs as.

Where a step can see processes of pybuild, in the /proc of a container, the kernel compares ids: with the identity map the
root of a step and pybuild are one user. So the ids that exist here are rotated. pybuild's own ids come last, where its
workers need them to reach the store, and each step gets a namespace that ends before them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.builder.host.id_map import Extent, IdMap, MapKind, effective_capabilities
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable

_CAP_CHOWN, _CAP_DAC_OVERRIDE, _CAP_FOWNER = 0, 1, 3
_NOBODY = 65_534
_SYSTEM_IDS = 65_536  # with more than twice as many, none of the users of a usual system is a user of a step


def shifted(id_map: IdMap) -> IdMap:
    """The map with other ids for the steps; the same map where the kernel does not let this process write such a one.

    The files of the steps then belong to users that are not this one, so it needs capabilities to move and remove them.
    """
    if id_map.kind is not MapKind.IDENTITY:
        return id_map
    capabilities = effective_capabilities()
    if not all(capabilities >> number & 1 for number in (_CAP_CHOWN, _CAP_DAC_OVERRIDE, _CAP_FOWNER)):
        return id_map
    users, groups = _rotate(id_map.uids, os.geteuid()), _rotate(id_map.gids, os.getegid())
    if users is None or groups is None:
        return id_map
    return IdMap(MapKind.SHIFTED, users.extents, groups.extents, withheld=(users.withheld, groups.withheld))


@frozen
class _Rotated:
    extents: tuple[Extent, ...]
    withheld: int


def _rotate(existing: Iterable[Extent], own: int) -> _Rotated | None:
    """The ids after the own one, from 0 on, then the others. None if fewer ids are left for steps than a system has."""
    outside = sorted((extent.inside, extent.count) for extent in existing)
    total = sum(count for _, count in outside)
    first = max(own + 1, _SYSTEM_IDS) if total > 2 * _SYSTEM_IDS else own + 1
    extents: list[Extent] = []
    inside = 0
    for low, high in ((first, 1 << 32), (0, first)):
        if low == 0:
            withheld = total - inside
        for start, count in outside:
            begin, end = max(start, low), min(start + count, high)
            if begin < end:
                extents.append(Extent(inside, begin, end - begin))
                inside += end - begin
    return _Rotated(tuple(extents), withheld) if total - withheld > _NOBODY else None
