"""Links, addresses and routes of one network namespace: the requests of rtnetlink(7) that the network of a step needs.

Sources: netlink(7), rtnetlink(7); include/uapi/linux/{netlink,rtnetlink,if_link,if_addr,veth}.h of Linux 6.18. All numbers are
in the byte order of the machine, addresses in that of the network.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

MAX_MTU: Final = 65_520  # that of pasta: the largest IPv4 packet, rounded down, without an Ethernet header

_NLMSG_ERROR: Final = 2
_REQUEST_ACK: Final = 0x1 | 0x4  # NLM_F_REQUEST, NLM_F_ACK
_CREATE: Final = 0x200 | 0x400  # NLM_F_EXCL, NLM_F_CREATE
_REPLACE: Final = 0x100 | 0x400  # NLM_F_REPLACE, NLM_F_CREATE
_RTM_NEWLINK, _RTM_SETLINK, _RTM_NEWADDR, _RTM_NEWROUTE = 16, 19, 20, 24
_RTMGRP_LINK: Final = 1

_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_AF_SPEC, _IFLA_NET_NS_FD = 3, 4, 18, 26, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFLA_INET_CONF, _IPV4_DEVCONF_FORWARDING = 1, 1
_IFLA_INET6_ADDR_GEN_MODE, _IN6_ADDR_GEN_MODE_NONE = 8, 1
_NESTED: Final = 0x8000
_IFF_UP, _IFF_RUNNING, _IFF_NOARP = 0x1, 0x40, 0x80
_SIOCGIFFLAGS: Final = 0x8913
_MOMENT: Final = 200  # ms

_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_F_NODAD: Final = 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_TABLE_MAIN, _PROT_STATIC, _SCOPE_UNIVERSE, _SCOPE_LINK = 254, 4, 0, 253
_RTN_UNICAST, _RTN_PROHIBIT = 1, 8

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence number, port
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, which of the flags change


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(-length % 4)


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode("ascii") + b"\0")


def _packed(address: str) -> tuple[int, bytes]:
    """The family and the bytes of an address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address)


def _prefix(text: str) -> tuple[int, bytes, int]:
    """Family, bytes and length of ADDRESS/LENGTH."""
    address, _, length = text.partition("/")
    return *_packed(address), int(length)


class Netlink:
    """A socket to the namespace that this process is in when it is made. Requests raise OSError with the kernel's errno."""

    def __init__(self, *, watch_links: bool = False) -> None:
        """`watch_links`: the socket becomes readable when a link appears or changes, too; see `discard`."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, _RTMGRP_LINK if watch_links else 0))
        self._sequence = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def discard(self) -> None:
        """Read what says that links have changed."""
        self._socket.recv(1 << 16)

    def wait_until_running(self, name: str) -> None:
        """Wait until packets can be sent over a link: after it is up the kernel takes a moment, in which it loses them."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while not link_flags(name) & _IFF_RUNNING and poll.poll(_MOMENT):
            self.discard()

    def make_veth(self, name: str, peer: str, peer_namespace: int) -> None:
        """A pair of connected links: `name` here, and `peer` in the network namespace of that descriptor."""
        data = _LINK.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, peer) + _number(_IFLA_MTU, MAX_MTU)
        data += _number(_IFLA_NET_NS_FD, peer_namespace)
        info = _text(_IFLA_INFO_KIND, "veth") + _attribute(_IFLA_INFO_DATA, _attribute(_VETH_INFO_PEER, data))
        attributes = _text(_IFLA_IFNAME, name) + _number(_IFLA_MTU, MAX_MTU) + _attribute(_IFLA_LINKINFO, info)
        self._request(_RTM_NEWLINK, _LINK.pack(0, 0, 0, 0, 0) + attributes, _CREATE)

    def set_up(self, name: str, *, forwards: bool = False, arp: bool = True) -> None:
        """Make a link ready for packets. It gets no IPv6 address by itself. `forwards`: IPv4 packets that arrive are
        forwarded. Without `arp` nobody is asked for the address of a neighbour.
        """
        index = socket.if_nametoindex(name)
        specs = _inet(forwards=True) if forwards else b""
        # First without IPv6 addresses, then up: the kernel makes them when a link comes up.
        self._request(_RTM_SETLINK, _LINK.pack(0, 0, index, 0, 0) + _no_own_ipv6(specs))
        flags = _IFF_UP | (0 if arp else _IFF_NOARP)
        self._request(_RTM_SETLINK, _LINK.pack(0, 0, index, flags, flags) + _number(_IFLA_MTU, MAX_MTU))

    def add_address(self, name: str, address: str) -> None:
        """Give a link ADDRESS/LENGTH. Nobody is asked whether the address is in use."""
        family, packed, length = _prefix(address)
        message = struct.pack("=BBBBI", family, length, _IFA_F_NODAD, _SCOPE_UNIVERSE, socket.if_nametoindex(name))
        self._request(
            _RTM_NEWADDR, message + _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed), _CREATE
        )

    def add_route(self, prefix: str, name: str, gateway: str = "") -> None:
        """Send packets for ADDRESS/LENGTH over a link, to a gateway if it is given. This replaces such a route."""
        attributes = _number(_RTA_OIF, socket.if_nametoindex(name))
        if gateway:
            attributes += _attribute(_RTA_GATEWAY, _packed(gateway)[1])
        self._route(
            prefix, _RTN_UNICAST, _SCOPE_UNIVERSE if gateway or ":" in prefix else _SCOPE_LINK, attributes, _REPLACE
        )

    def prohibit(self, prefix: str) -> None:
        """Answer packets for ADDRESS/LENGTH with an error: EACCES, or ICMP's "administratively prohibited"."""
        self._route(prefix, _RTN_PROHIBIT, _SCOPE_UNIVERSE, b"", _CREATE)

    def _route(self, prefix: str, kind: int, scope: int, attributes: bytes, flags: int) -> None:
        family, packed, length = _prefix(prefix)
        # struct rtmsg: family, lengths of destination and source, tos, table, protocol, scope, type, flags
        message = struct.pack("=BBBBBBBBI", family, length, 0, 0, _TABLE_MAIN, _PROT_STATIC, scope, kind, 0)
        destination = _attribute(_RTA_DST, packed) if length else b""
        self._request(_RTM_NEWROUTE, message + destination + attributes, flags)

    def _request(self, kind: int, payload: bytes, flags: int = 0) -> None:
        """Send a request and wait for its answer; what says that links have changed is passed over."""
        self._sequence += 1
        header = _HEADER.pack(_HEADER.size + len(payload), kind, _REQUEST_ACK | flags, self._sequence, 0)
        self._socket.send(header + payload)
        while True:
            data = self._socket.recv(1 << 16)
            while len(data) >= _HEADER.size:
                length, answer, _, sequence, _ = _HEADER.unpack_from(data)
                if answer == _NLMSG_ERROR and sequence == self._sequence:
                    code = -struct.unpack_from("=i", data, _HEADER.size)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    return
                data = data[length + -length % 4 :] if length >= _HEADER.size else b""


def _inet(*, forwards: bool) -> bytes:
    conf = _attribute(_NESTED | _IFLA_INET_CONF, _number(_IPV4_DEVCONF_FORWARDING, int(forwards)))
    return _attribute(_NESTED | socket.AF_INET, conf)


def _no_own_ipv6(more: bytes = b"") -> bytes:
    """The attribute that keeps the kernel from giving a link an address of its own; empty where there is no IPv6."""
    if os.path.exists("/proc/net/if_inet6"):
        mode = _attribute(_IFLA_INET6_ADDR_GEN_MODE, struct.pack("=B", _IN6_ADDR_GEN_MODE_NONE))
        more += _attribute(_NESTED | socket.AF_INET6, mode)
    return _attribute(_NESTED | _IFLA_AF_SPEC, more) if more else b""


def link_flags(name: str) -> int:
    """The IFF_ flags of a link, see netdevice(7); 0 if there is none of that name. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        request = struct.pack("16sH14x", name.encode("ascii"), 0)
        try:
            found: int = struct.unpack("16xH14x", fcntl.ioctl(sock, _SIOCGIFFLAGS, request))[0]
        except OSError as error:
            if error.errno == errno.ENODEV:
                return 0
            raise
    return found
