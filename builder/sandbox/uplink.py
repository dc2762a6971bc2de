"""The network of a step, and the way from there to the network of the machine, as data.

    the step's namespace          the gate's namespace            the machine's
    eth0 192.0.0.2  ---- veth --- step0 192.0.0.1 | tap0 --- tap --- pasta

pasta (of the project passt) makes a connection of the machine for each one that it reads from its tap device, without a
privilege. It does so for every address, so a step that wrote packets of its own making to that device would reach the
machine's loopback addresses and the link-local ones. Therefore the device is in a namespace between, the gate's, in which
no process of the step has a power: there the kernel forwards what the routes below allow, whatever the step sends.

The addresses of both ends are from 192.0.0.0/29, which RFC 7335 reserves for such links, and from a prefix of RFC 4193, so
no address of the machine or of its networks is hidden from a step.
"""

from __future__ import annotations

from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

DEVICE: Final = "tap0"
HELD: Final = "held0"  # holds the first packets of a step, until pasta has started
TUN: Final = "/dev/net/tun"

_ULA: Final = "fd70:7962:7569:6c64"


@dataclass(frozen=True, slots=True)
class Family:
    """The addresses of one version of IP, and what the gate forwards and refuses.

    `dns` can stand for the first nameserver of this version in the machine's resolv.conf: pasta passes on what is sent to
    port 53 there. Some versions then give all answers of that nameserver this address, so it must be asked under no other.
    """

    gate: str
    step: str
    length: int  # of the prefix of both
    dns: str
    everything: str
    forwarded: tuple[str, ...]
    refused: tuple[str, ...]


# Refused, beside what is link-local: 0.0.0.0 is the machine itself for connect(2), as are the loopback addresses and, over
# an IPv6 socket, ::ffff:127.0.0.1. Of IPv6 only what is global, local to an organisation (RFC 4193) or translated to IPv4
# (RFC 6052, RFC 8215) is forwarded. 100.100.100.200 and fd00:ec2::254 are what 169.254.169.254 is in other clouds.
IPV4: Final = Family(
    "192.0.0.1", "192.0.0.2", 30, "192.0.0.5", "0.0.0.0/0", ("0.0.0.0/0",),
    ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "100.100.100.200/32"),
)  # fmt: skip
IPV6: Final = Family(
    f"{_ULA}::1", f"{_ULA}::2", 126, f"{_ULA}::5", "::/0", ("2000::/3", "fc00::/7", "64:ff9b::/96", "64:ff9b:1::/48"),
    ("fd00:ec2::254/128",),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Uplink:
    """How a step reaches the network of this machine: `program` is the path of pasta, `ipv4` and `ipv6` the machine's own
    addresses; "" if it has no route for that version. `dns` are the addresses that stand for a nameserver of the machine.
    """

    program: str
    ipv4: str
    ipv6: str
    dns: tuple[str, ...] = ()

    @property
    def families(self) -> tuple[Family, ...]:
        return (IPV4,) * bool(self.ipv4) + (IPV6,) * bool(self.ipv6)

    def command(self, namespace: str) -> tuple[str, ...]:
        """The arguments of pasta for a network namespace, by its path.

        It must not give a way back: no port of the machine leads into the step, and no address of the step to the machine's
        loopback. It is root of the user namespace of the steps, where versions before 2023_11 take an identity map for the
        machine's own ids, and would change to nobody.
        """
        return (
            self.program, "--foreground", "--quiet", "--runas", "0", "--ns-ifname", DEVICE, "--no-map-gw", "-t", "none", "-u", "none",
            "-T", "none", "-U", "none", "--no-dhcp", "--no-dhcpv6", "--no-ndp", "--no-ra", *self._versions(),
            "--netns", namespace,
        )  # fmt: skip

    def _versions(self) -> tuple[str, ...]:
        forwards = tuple(word for address in self.dns for word in ("--dns-forward", address))
        return (*forwards, *(("--ipv4-only",) * (not self.ipv6)), *(("--ipv6-only",) * (not self.ipv4)))

    @staticmethod
    def from_json(data: dict[str, Any]) -> Uplink:
        return Uplink(**{**data, "dns": tuple(data["dns"])})
