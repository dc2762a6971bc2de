"""File capabilities: the value of the attribute security.capability, capabilities(7), include/uapi/linux/capability.h."""

from __future__ import annotations

_REVISION_2, _REVISION_3 = 2, 3  # the highest byte of the first word; revision 3 appends a root id
_REVISION_3_SIZE = 24  # bytes; the last four are the root id


def without_root_id(value: bytes) -> bytes:
    """The value in revision 2, without the root id of a user namespace. Any other value stays as it is."""
    if len(value) == _REVISION_3_SIZE and value[3] == _REVISION_3:
        return value[:3] + bytes((_REVISION_2,)) + value[4:20]
    return value
