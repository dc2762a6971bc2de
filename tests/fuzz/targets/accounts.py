"""The passwd and group of an image, and the name that USER or --chown looks up there: three parts with NUL between them."""

from __future__ import annotations

from pybuild.builder.errors import BuildError
from pybuild.builder.files.passwd import Identity, UserDatabase
from tests.fuzz.target import FuzzTarget, check_refusal

HIGHEST = 0xFFFFFFFE


def read(data: bytes) -> bool:
    """All ids are ones that the kernel takes, and a name and its number are the same user."""
    name, passwd, group, *_ = [*data.split(b"\0"), b"", b"", b""]
    users = UserDatabase(passwd, group)
    text = name.decode("utf-8", "surrogateescape")
    for ids in (users.identity(""), users.identity("0"), users.identity("0:0")):
        _check(ids)
    try:
        found = users.identity(text)
        owner = users.owner(text)
        users.workdir_owner(text)
    except BuildError as error:
        return check_refusal(error)
    _check(found)
    assert all(0 <= number <= HIGHEST for number in owner)
    assert owner[0] == found.uid
    return True


def _check(found: Identity) -> None:
    assert all(0 <= number <= HIGHEST for number in (found.uid, found.gid, *found.groups))
    assert found.groups[0] == found.gid and len(set(found.groups)) == len(found.groups)
    assert found.home


PASSWD = b"root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:\n#c:x:1:1\nbroken:x:\n1000:x:7:8::/h:\n"
GROUP = b"root:x:0:\nstaff:x:50:www-data,root\nadm:x:4:www-data,\n12:x:99:\n"
TARGET = FuzzTarget(
    read,
    seeds=tuple(
        name + b"\0" + PASSWD + b"\0" + GROUP
        for name in (b"www-data", b"www-data:staff", b"1000", b"33:12", b":4", b"nobody", b"4294967295", b"+1", b"")
    ),
    words=(b":x:", b"\n", b"\0", b"::", b"4294967294", b"4294967295", b"99999999999", b"\xc2\xa0", b"\xc2\xb2", b"\xff", b",", b"#"),
)  # fmt: skip
