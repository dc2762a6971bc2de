"""The network of this machine, as RUN steps get it: its own addresses, the way out through pasta, and its nameservers."""

from __future__ import annotations

import ipaddress
import shutil
import socket
from dataclasses import replace
from ipaddress import ip_network
from typing import TypeAlias

from pybuild.builder.sandbox.uplink import IPV4, IPV6, Family, Uplink
from pybuild.values import frozen

Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"

_LOOPBACK = "127.0.0.1"
# Addresses for documents (RFC 5737, RFC 3849), which no route names but the default one. Nothing is sent to them.
_ELSEWHERE = ((socket.AF_INET, "198.51.100.1"), (socket.AF_INET6, "2001:db8::1"))
_RESOLV_CONF_BYTES = 1 << 20


@frozen
class StepNetwork:
    """What steps have by default: a network of their own with this way out, else the machine's. `problem` is why pasta does
    not work here, if it is installed.
    """

    uplink: Uplink | None
    problem: str

    def note(self) -> str:
        """One line for users whose steps have the machine's network; "" for the others."""
        if self.uplink is not None:
            return ""
        why = f" ({self.problem})" if self.problem else ""
        return f"RUN steps use the network of this machine{why}; --network=none gives them none"


def find_uplink() -> Uplink | None:
    """The way out of a step's own network; None without pasta, or without a route to anywhere."""
    program = shutil.which("pasta")
    ipv4, ipv6 = (_source_address(family, address) for family, address in _ELSEWHERE)
    if program is None or not (ipv4 or ipv6):
        return None
    uplink = Uplink(program, ipv4, ipv6)
    dns = _forwarded(read_resolv_conf())
    return replace(uplink, dns=tuple(family.dns for family in uplink.families if family.dns in dns))


def host_gateway() -> str:
    """The address under which a step reaches this machine, with its own network and with that of the machine."""
    return next(filter(None, (_source_address(*elsewhere) for elsewhere in _ELSEWHERE)), _LOOPBACK)


def _source_address(family: int, destination: str) -> str:
    """The address from which this machine sends to a destination; "" if it has no route there. It sends nothing."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((destination, 9))
            address = ipaddress.ip_address(sock.getsockname()[0])
    except OSError:
        return ""
    return "" if address.is_loopback or address.is_link_local or address.is_unspecified else str(address)


def read_resolv_conf() -> str:
    """The machine's resolv.conf; "" if it has none."""
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="surrogateescape") as file:
            return file.read(_RESOLV_CONF_BYTES)
    except OSError:
        return ""


def step_resolv_conf(text: str, uplink: Uplink) -> str:
    """The machine's resolv.conf for a step with a network of its own.

    A nameserver on a loopback address (systemd-resolved, dnsmasq) or a link-local one is not reached from there. The first of
    each version of IP is reached through pasta, under an address of the step's network. The others are left out.
    """
    left = set(uplink.dns)
    lines = []
    for line in text.splitlines():
        found = _nameserver(line)
        if found is None or not _is_hidden(*found):
            lines.append(line)
        elif (dns := found[0].dns) in left:
            left.remove(dns)
            lines.append(f"nameserver {dns}")
    return "".join(f"{line}\n" for line in lines)


def _forwarded(text: str) -> tuple[str, ...]:
    """The addresses that have to stand for nameservers of a resolv.conf: the first of each version, where it is hidden."""
    found = [nameserver for nameserver in map(_nameserver, text.splitlines()) if nameserver is not None]
    first = {family.dns: (family, address) for family, address in reversed(found)}
    return tuple(dns for dns, (family, address) in first.items() if _is_hidden(family, address))


def _nameserver(line: str) -> tuple[Family, Address] | None:
    words = line.split()
    if len(words) < 2 or words[0] != "nameserver":
        return None
    try:
        address = ipaddress.ip_address(words[1].partition("%")[0])
    except ValueError:
        return None
    return IPV4 if address.version == 4 else IPV6, address


def _is_hidden(family: Family, address: Address) -> bool:
    """Whether a step with a network of its own cannot reach the address."""
    return address.is_loopback or address.is_link_local or any(address in ip_network(text) for text in family.refused)
