"""What a step's resolv.conf says, which addresses of this machine are used, and what is said of a network."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybuild.builder import doctor
from pybuild.builder.doctor import State
from pybuild.builder.host import network
from pybuild.builder.host.network import StepNetwork, host_gateway, step_resolv_conf
from pybuild.builder.sandbox.uplink import IPV4, IPV6, Uplink

BOTH = Uplink("/usr/bin/pasta", "10.0.0.2", "fd01::2")
V4, V6 = IPV4.dns, IPV6.dns


@pytest.mark.parametrize(
    ("text", "dns", "expected"),
    [
        ("nameserver 10.0.0.1\n", (), "nameserver 10.0.0.1\n"),
        ("nameserver 127.0.0.53\noptions edns0\nsearch a b", (V4,), f"nameserver {V4}\noptions edns0\nsearch a b\n"),
        ("nameserver 127.0.0.53\nnameserver 127.0.0.54\n", (V4,), f"nameserver {V4}\n"),
        ("nameserver 127.0.0.1\nnameserver 10.0.0.1\n", (V4,), f"nameserver {V4}\nnameserver 10.0.0.1\n"),
        # pasta knows the first one only.
        ("nameserver 10.0.0.1\nnameserver 127.0.0.1\n", (), "nameserver 10.0.0.1\n"),
        ("nameserver 169.254.169.254\n", (V4,), f"nameserver {V4}\n"),
        ("nameserver 100.100.100.200\n", (V4,), f"nameserver {V4}\n"),
        ("nameserver fe80::1%eth0\nnameserver 127.0.0.1\n", (V6, V4), f"nameserver {V6}\nnameserver {V4}\n"),
        ("nameserver ::1\n", (V6,), f"nameserver {V6}\n"),
        ("nameserver fd00::53\n", (), "nameserver fd00::53\n"),
        ("# nameserver 127.0.0.1\n;x\nnameserver\nnameserver x\n", (), "# nameserver 127.0.0.1\n;x\nnameserver\nnameserver x\n"),
        ("", (), ""),
    ],
)
def test_nameservers_that_a_step_cannot_reach_are_replaced(text: str, dns: tuple[str, ...], expected: str) -> None:
    assert set(network._forwarded(text)) == set(dns)
    assert step_resolv_conf(text, Uplink(BOTH.program, BOTH.ipv4, BOTH.ipv6, dns)) == expected


def test_a_nameserver_of_a_version_without_a_route_is_left_out() -> None:
    text = "nameserver ::1\nnameserver 10.0.0.1\n"
    assert step_resolv_conf(text, Uplink(BOTH.program, BOTH.ipv4, "", ())) == "nameserver 10.0.0.1\n"


@given(st.lists(st.ip_addresses().map(str) | st.sampled_from(["127.0.0.53", "::1", "169.254.0.9", "fe80::1%2", "::", "0.0.0.0"])))
def test_no_nameserver_is_an_address_of_the_machine_alone(addresses: list[str]) -> None:
    text = "".join(f"nameserver {address}\n" for address in addresses)
    uplink = Uplink(BOTH.program, BOTH.ipv4, BOTH.ipv6, network._forwarded(text))
    left = [line.split()[1] for line in step_resolv_conf(text, uplink).splitlines()]
    assert not any(ip_address(word.partition("%")[0]).is_loopback or word.startswith(("fe80:", "169.254.")) for word in left)
    assert left.count(V4) <= 1
    assert left.count(V6) <= 1


def test_the_way_out_forwards_global_addresses_and_no_special_one() -> None:
    """What IANA's registries call loopback, link-local, unspecified or multicast goes nowhere."""
    def goes(address: str) -> bool:
        found = ip_address(address)
        family = IPV4 if found.version == 4 else IPV6
        matches = [ip_network(text) for text in (*family.forwarded, *family.refused) if found in ip_network(text)]
        return bool(matches) and str(max(matches, key=lambda prefix: prefix.prefixlen)) in family.forwarded

    assert all(map(goes, ("8.8.8.8", "10.1.2.3", "192.168.0.1", "172.17.0.1", "2a00::1", "fd00::1", "64:ff9b::808:808")))
    for address in ("127.0.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255", "100.100.100.200"):
        assert not goes(address)
    for address in ("::", "::1", "::ffff:127.0.0.1", "::127.0.0.1", "fe80::1", "ff02::1", "fd00:ec2::254", "fec0::1"):
        assert not goes(address)


def test_pasta_gets_no_way_back() -> None:
    command = BOTH.command("/proc/1/ns/net")
    assert command[-2:] == ("--netns", "/proc/1/ns/net")
    assert "--no-map-gw" in command
    for option in ("-t", "-u", "-T", "-U"):
        assert command[command.index(option) + 1] == "none"
    assert "--ipv4-only" not in command
    assert "--ipv4-only" in Uplink("pasta", "10.0.0.2", "").command("x")
    assert "--ipv6-only" in Uplink("pasta", "", "fd01::2").command("x")


def test_host_gateway_is_an_address_that_is_not_of_loopback_alone() -> None:
    assert ip_address(host_gateway())


def test_the_note_says_why_pasta_does_not_work() -> None:
    assert StepNetwork(BOTH, "").note() == ""
    assert StepNetwork(None, "").note() == "RUN steps use the network of this machine; --network=none gives them none"
    assert "(cannot x)" in StepNetwork(None, "cannot x").note()


def test_doctor_has_a_row_for_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._network(StepNetwork(BOTH, "")).state is State.OK
    refused = doctor._network(StepNetwork(None, "cannot make a device for pasta: Permission denied: /dev/net/tun"))
    assert (refused.state, refused.fix) == (State.NOTE, "let this user open it, as with chmod 666 /dev/net/tun")
    assert doctor._network(StepNetwork(None, "")).fix == ""  # pasta is installed
    monkeypatch.setenv("PATH", "/nonexistent")
    missing = doctor._network(StepNetwork(None, ""))
    assert "pasta is not installed" in missing.found
    assert "apt-get install passt" in missing.fix
