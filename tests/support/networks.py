"""A machine with a network that ends in this test: nothing that a test sends leaves the namespaces which are made here.

the machine: lo, eth0 10.9.0.2 and fd09::2  ---- veth ----  elsewhere: up0 10.9.0.1, fd09::1, 169.254.169.254, fe80::1
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pybuild.builder.sandbox import linux
from pybuild.builder.sandbox.netlink import Netlink

if TYPE_CHECKING:
    from tests.support.people import Person

NSENTER = "/usr/bin/nsenter"  # by its path: some tests have an empty PATH
MACHINE, ELSEWHERE, METADATA = "10.9.0.2", "10.9.0.1", "169.254.169.254"
MACHINE6, ELSEWHERE6, NEIGHBOUR6 = "fd09::2", "fd09::1", "fe80::1"


@dataclass(frozen=True)
class Namespace:
    """A network and a mount namespace, kept by a process that sleeps."""

    pid: int

    @contextmanager
    def network(self) -> Iterator[None]:
        """Sockets that are made inside belong to this network."""
        own = os.open("/proc/self/ns/net", os.O_RDONLY)
        other = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
        linux.setns(other, linux.CLONE_NEWNET)
        try:
            yield
        finally:
            linux.setns(own, linux.CLONE_NEWNET)
            os.close(own)
            os.close(other)

    def command(self, *words: str | Path) -> tuple[str, ...]:
        return (NSENTER, "-t", str(self.pid), "-n", "-m", "--", *map(str, words))

    def run(self, *words: str | Path) -> None:
        subprocess.run(self.command(*words), check=True)

    def bind(self, file: Path, over: str) -> None:
        """Mount a file over another one, here only."""
        self.run("mount", "--bind", file, over)


@contextmanager
def namespace() -> Iterator[Namespace]:
    script = "echo; exec sleep 1000"
    with subprocess.Popen(["unshare", "-n", "-m", "sh", "-c", script], stdout=subprocess.PIPE) as keeper:
        assert keeper.stdout is not None
        keeper.stdout.readline()
        try:
            yield Namespace(keeper.pid)
        finally:
            keeper.kill()


@contextmanager
def machine(place: Path, resolv_conf: str = f"nameserver {ELSEWHERE}\n") -> Iterator[tuple[Namespace, Namespace]]:
    """The machine, and the network elsewhere. Every user may open the machine's /dev/net/tun, as on a usual system."""
    with namespace() as here, namespace() as elsewhere:
        with elsewhere.network():
            far = Netlink()
            target = os.open("/proc/self/ns/net", os.O_RDONLY)
        with here.network():
            near = Netlink()
            near.make_veth("eth0", "up0", target)
            near.set_up("lo")
            near.set_up("eth0")
            near.add_address("eth0", f"{MACHINE}/24")
            near.add_address("eth0", f"{MACHINE6}/64")
            near.add_address("eth0", "fe80::2/64")
        with elsewhere.network():
            far.set_up("lo")
            far.set_up("up0")
            for address in (f"{ELSEWHERE}/24", f"{METADATA}/32", f"{ELSEWHERE6}/64", f"{NEIGHBOUR6}/64"):
                far.add_address("up0", address)
        with here.network():
            near.add_route("0.0.0.0/0", "eth0", ELSEWHERE)
            near.add_route("::/0", "eth0", ELSEWHERE6)
        for used in (near, far):
            used.close()
        os.close(target)
        (place / "resolv.conf").write_text(resolv_conf)
        (place / "resolv.conf").chmod(0o644)
        here.bind(place / "resolv.conf", "/etc/resolv.conf")
        os.mknod(place / "tun", 0o20666, os.makedev(10, 200))
        (place / "tun").chmod(0o666)
        here.bind(place / "tun", "/dev/net/tun")
        yield here, elsewhere


def on(here: Namespace, person: Person) -> Person:
    """The same user, on that machine."""
    return replace(person, prefix=(*here.command(), *person.prefix))


class Listener:
    """A TCP server on one address of a namespace that notes who connected: nobody, as long as `reached` is false."""

    def __init__(self, where: Namespace, address: str, port: int = 0) -> None:
        with where.network():
            if address.startswith("\0"):
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.bind(address)
            else:
                info = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0]
                self._socket = socket.socket(info[0], socket.SOCK_STREAM)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self._socket.bind(info[4])
        self._socket.listen(16)
        name = self._socket.getsockname()
        self.port = 0 if isinstance(name, bytes) else int(name[1])

    @property
    def reached(self) -> bool:
        """Whether a connection has arrived since the last time."""
        self._socket.setblocking(False)
        found = False
        with suppress(BlockingIOError):
            while True:
                self._socket.accept()[0].close()
                found = True
        return found

    def wait(self) -> None:
        """Wait until a connection arrives."""
        self._socket.settimeout(60)
        self._socket.accept()[0].close()

    def close(self) -> None:
        self._socket.close()


@contextmanager
def nameserver(where: Namespace, address: str) -> Iterator[None]:
    """A nameserver that gives every name the address of the network elsewhere."""
    with where.network():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        server = socket.socket(family, socket.SOCK_DGRAM)
        server.bind((address, 53))

    def serve() -> None:
        while True:
            query, client = server.recvfrom(512)
            if query == b"end":
                return
            question = query[12 : query.index(b"\0", 12) + 5]
            wanted = question[-4:-2] == b"\0\1"  # the type A
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(ELSEWHERE) if wanted else b""
            head = query[:2] + b"\x81\x80\0\1" + (b"\0\1" if wanted else b"\0\0") + b"\0\0\0\0"
            server.sendto(head + question + answer, client)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        with where.network(), socket.socket(family, socket.SOCK_DGRAM) as ender:
            ender.sendto(b"end", (address, 53))
        thread.join()
        server.close()
