"""What this machine says about itself: mountinfo, cgroup and subuid, with NUL between them."""

from __future__ import annotations

import os

from pybuild.builder.host.cgroupfs import parse_cgroups
from pybuild.builder.host.id_map import subordinate_ids
from pybuild.builder.host.mountinfo import parse_mounts
from tests.fuzz.target import FuzzTarget

HIGHEST = 0xFFFFFFFF


def read(data: bytes) -> bool:
    """A line that is not understood changes nothing about the others."""
    mountinfo, cgroups, subids, *_ = [*data.split(b"\0"), b"", b""]
    mounts, paths = (part.decode("utf-8", "surrogateescape") for part in (mountinfo, cgroups))
    places = parse_cgroups(parse_mounts(mounts), paths)
    for place in places.values():
        assert place.version in (1, 2) and place.directory.startswith("/")
    ids = _subordinate(subids)
    for first, count in ids:
        assert 0 <= first <= HIGHEST and 0 < count <= HIGHEST + 1
    assert _subordinate(subids + b"\nother:1:1\nme:5:7\nbroken:\n\xff\n") == [*ids, (5, 7)]
    return bool(places or ids)


def _subordinate(data: bytes) -> list[tuple[int, int]]:
    file = os.memfd_create("subuid")
    try:
        os.write(file, data)
        return subordinate_ids(f"/proc/self/fd/{file}", "me", 1000)
    finally:
        os.close(file)


V1 = b"30 23 0:26 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory\n31 23 0:27 / /sys/fs/cgroup/cpu rw shared:9 - cgroup c rw,cpu,cpuacct\n"
V2 = b"29 23 0:26 /kubepods/x /sys/fs/cgroup\\040x rw shared:9 master:2 - cgroup2 cgroup2 rw,nsdelegate\n"
TARGET = FuzzTarget(
    read,
    seeds=(
        V1 + b"\0" + b"5:memory:/user.slice\n4:cpu,cpuacct:/\n1:name=systemd:/init.scope\n0::/\n\0me:100000:65536\n1000:200000:1\n",
        V2 + b"1 1 8:1 / / rw - ext4 /dev/sda1 rw\n\0" + b"0::/kubepods/x/y\n\0root:1:2\nme:5\nme::\nme:x:y\n",
    ),
    words=(
        b" - cgroup2 cgroup2 rw", b" - cgroup cgroup rw,", b"0::/", b"/..", b"\\040", b"\\012", b"\x0b", b"\x0c", b"\x1c", b"\r",
        b"\xc2\x85", b"\xe2\x80\xa8", b"\nme:", b"1000:", b"4294967295", b"4294967296", b"\xd9\xa1", b"\xc2\xb2", b"\0",
    ),
)  # fmt: skip
