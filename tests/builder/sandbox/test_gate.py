"""A gate whose pasta does not do what it should: the gate says so, and leaves no process."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.sandbox import gate, linux, netlink
from pybuild.builder.sandbox.loopback import loopback_up
from pybuild.builder.sandbox.netlink import Netlink
from pybuild.builder.sandbox.uplink import Uplink

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.builder.sandbox.conftest import EnterNamespaces, InChild


def prove(enter_namespaces: EnterNamespaces, program: str, address: str = "10.9.0.2") -> tuple[bool, str]:
    """Try a gate in a network of one address; whether it works, and what it says. Every child has ended."""
    enter_namespaces(linux.CLONE_NEWNET)
    loopback_up()
    links = Netlink()
    links.add_address("lo", "10.9.0.2/32")
    links.close()
    found, text = gate.prove(Uplink(program, address, ""))
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, 0)
    return found is not None, text


def stub(place: Path, script: str) -> str:
    path = place / "pasta"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("echo 'no  interface' >&2; echo >&2; echo sorry >&2; exit 1", "cannot start pasta: no  interface; sorry"),
        ("exit 0", "cannot start pasta: it has ended"),
        ("kill -9 $$", "cannot start pasta: it has ended"),
        ("head -c 100000 /dev/zero >&2; exit 1", "cannot start pasta: "),
    ],
)
def test_what_pasta_says_is_passed_on(
    tmp_path: Path, in_child: InChild, enter_namespaces: EnterNamespaces, script: str, text: str
) -> None:
    works, said = in_child(lambda: prove(enter_namespaces, stub(tmp_path, script)))
    assert not works
    assert said.startswith(text)
    assert len(said) <= 4096


def test_a_program_that_is_not_there(tmp_path: Path, in_child: InChild, enter_namespaces: EnterNamespaces) -> None:
    works, said = in_child(lambda: prove(enter_namespaces, str(tmp_path / "none")))
    assert (works, said) == (False, f"cannot start pasta: No such file or directory: {tmp_path}/none")


def test_an_address_that_is_not_of_this_machine(in_child: InChild, enter_namespaces: EnterNamespaces) -> None:
    works, said = in_child(lambda: prove(enter_namespaces, "/usr/bin/pasta", "10.9.0.3"))
    assert (works, said) == (False, "cannot listen on the address of this machine: Cannot assign requested address")


def test_requests_fail_with_the_error_of_the_kernel(in_child: InChild, enter_namespaces: EnterNamespaces) -> None:
    def job() -> list[int | None]:
        enter_namespaces(linux.CLONE_NEWNET)
        links = Netlink()
        links.add_address("lo", "10.9.0.2/32")
        codes = []
        requests: tuple[Callable[[], None], ...] = (
            lambda: links.add_address("lo", "10.9.0.2/32"),
            lambda: links.add_route("10.0.0.0/8", "lo", "10.8.0.1"),
            lambda: links.set_up("none"),
            lambda: links.make_veth("a", "b", os.open("/dev/null", os.O_RDONLY)),
        )
        for request in requests:
            with pytest.raises(OSError) as caught:
                request()
            codes.append(caught.value.errno)  # None: Python gives if_nametoindex no number
        links.prohibit("169.254.0.0/16")
        links.prohibit("fe80::/10")
        return codes

    assert in_child(job) == [errno.EEXIST, errno.ENETUNREACH, None, errno.EINVAL]


def test_flags_of_links(in_child: InChild, enter_namespaces: EnterNamespaces) -> None:
    def job() -> tuple[int, int, int]:
        enter_namespaces(linux.CLONE_NEWNET)
        down = netlink.link_flags("lo")
        links = Netlink(watch_links=True)
        links.set_up("lo")
        links.wait_until_running("lo")
        return down & 0x41, netlink.link_flags("lo") & 0x41, netlink.link_flags("none")

    assert in_child(job) == (0, 0x41, 0)
