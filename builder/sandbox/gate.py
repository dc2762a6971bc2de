"""The gate between the network of one step and pasta: uplink.py says what it is for.

    sandbox worker --fork--> gate --fork--> pasta, in the machine's network namespace
                             in a namespace of its own, with the tap device of pasta

The gate makes its namespace and waits until pasta has put its device there. When it gets the network namespace of a step, it
connects the two. It ends, and pasta with it, when all the others have closed their end of its socket, when pasta ends, and
when its parent dies.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
from contextlib import suppress

from pybuild.builder.sandbox import linux
from pybuild.builder.sandbox.loopback import loopback_up
from pybuild.builder.sandbox.netlink import Netlink
from pybuild.builder.sandbox.report import reason
from pybuild.builder.sandbox.uplink import DEVICE, IPV6, TUN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, NoReturn

    from pybuild.builder.sandbox.uplink import Family, Uplink

_READY: Final = b"\n"
_TEXT: Final = 1 << 12  # bytes of an error
_SECONDS: Final = 10.0  # for pasta to start, on a busy machine; it takes 0.01
_PROOF_SECONDS: Final = 5.0
# pasta opens /proc/PID/ns/net of the gate, and ptrace(2) allows that to a process with no fewer capabilities than the gate.
_CAPABILITIES: Final = 1 << 12 | 1 << 21  # CAP_NET_ADMIN, CAP_SYS_ADMIN
_ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}


class Gate:
    """A gate, as the worker sees it: its pid, and the socket over which it is used and kept alive."""

    def __init__(self, uplink: Uplink, *, proof: bool = False) -> None:
        """Start it. With `proof` it first connects to this machine through pasta, and says so. Raises OSError."""
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            parent = os.getpid()
            try:
                self.pid = os.fork()
            except OSError:
                self.socket.close()
                raise
            if self.pid == 0:
                _serve(uplink, theirs, parent, proof)

    def close(self) -> None:
        """Let it end, unless a step uses it. It is a child of this process, which has to wait for it."""
        self.socket.close()


def prove(uplink: Uplink) -> tuple[Gate | None, str]:
    """A gate that has reached this machine through pasta; or None, and why it does not work here."""
    try:
        gate = Gate(uplink, proof=True)
    except OSError as error:
        return None, reason(error)
    text = gate.socket.recv(_TEXT)
    if text == _READY:
        return gate, ""
    gate.close()
    os.waitpid(gate.pid, 0)
    return None, text.decode("utf-8", "replace") or "it was killed"


def connect(gate: socket.socket, namespace: int) -> None:
    """Ask for the network namespace of that descriptor to be connected; `wait` says when it is. Raises OSError."""
    socket.send_fds(gate, [b"."], [namespace])


def wait(gate: socket.socket) -> None:
    """Wait until the gate has started and connected the namespace. Raises OSError, whose text says what has failed."""
    text = gate.recv(_TEXT)
    if text != _READY:
        raise OSError(errno.ENETDOWN, text.decode("utf-8", "replace") or "pasta was killed")


def _serve(uplink: Uplink, control: socket.socket, parent: int, proof: bool) -> NoReturn:
    doing = "prepare the way to the network"
    pasta: list[int] = []
    try:
        linux.set_pdeathsig(signal.SIGKILL)
        fd = control.fileno()
        linux.close_range(fd + 1)
        linux.close_range(3, fd - 1)
        if os.getppid() != parent:
            os._exit(1)
        doing = "make a device for pasta"  # it opens this in the same namespace, and does not say why it may not
        os.close(os.open(TUN, os.O_RDWR | os.O_CLOEXEC))
        doing = "listen on the address of this machine"
        listener = _listener(uplink) if proof else None
        doing = "start pasta"
        go, output, pidfd = _fork_pasta(uplink, pasta)
        linux.unshare(linux.CLONE_NEWNET)
        links = Netlink(watch_links=True)
        linux.capset(_CAPABILITIES, _CAPABILITIES, 0)
        os.write(go, b".")
        os.close(go)
        _wait_for_device(links, pidfd, output)
        doing = "prepare the way to the network"
        families = _prepare(uplink, links)
        if listener is not None:
            doing = "reach this machine through pasta"
            with listener, socket.socket(listener.family, socket.SOCK_STREAM) as probe:
                probe.settimeout(_PROOF_SECONDS)
                probe.connect(listener.getsockname())
                control.send(_READY)
        doing = "connect the step to the network"
        _wait_for_step(control, pidfd, links, families)
    except BaseException as error:
        with suppress(OSError):
            control.send(f"cannot {doing}: {reason(error)}".encode("utf-8", "replace")[:_TEXT])
    finally:
        for pid in pasta:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os._exit(0)


def _listener(uplink: Uplink) -> socket.socket:
    """A socket that listens on the address of this machine to which packets of steps can go."""
    listener = socket.socket(socket.AF_INET if uplink.ipv4 else socket.AF_INET6, socket.SOCK_STREAM)
    listener.bind((uplink.ipv4 or uplink.ipv6, 0))  # no name is looked up: modules for that cannot be imported here
    listener.listen(1)
    return listener


def _fork_pasta(uplink: Uplink, pids: list[int]) -> tuple[int, int, int]:
    """Fork the process that becomes pasta: it stays in this network namespace. Return three descriptors: a write to the first
    lets it begin, from the second its errors can be read, the third is its pidfd.
    """
    begin, go = os.pipe2(os.O_CLOEXEC)
    reader, output = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)  # pasta must not wait for a reader of its messages
    gate = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            linux.set_pdeathsig(signal.SIGKILL)
            os.close(go)
            if not os.read(begin, 1) or os.getppid() != gate:
                os._exit(1)
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            for number, fd in enumerate((null, output, output)):
                os.dup2(fd, number)
            linux.close_range(3)
            linux.reset_signals()  # some versions refuse to start with SIGPIPE ignored, as Python leaves it
            os.setsid()
            os.chdir("/")
            os.execve(uplink.program, uplink.command(f"/proc/{gate}/ns/net"), _ENVIRONMENT)
        except OSError as error:
            os.write(2, reason(error).encode("utf-8", "replace"))
        finally:
            os._exit(127)
    pids.append(pid)
    os.close(begin)
    os.close(output)
    return go, reader, os.pidfd_open(pid)


def _wait_for_device(links: Netlink, pidfd: int, output: int) -> None:
    """Wait until pasta has made its device. Raises OSError with what pasta said, if it ends instead."""
    poll = select.poll()
    poll.register(links, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    while not _exists(DEVICE):
        ready = [fd for fd, _ in poll.poll(int(1000 * _SECONDS))]
        if pidfd in ready:
            said = os.read(output, _TEXT).decode("utf-8", "replace")
            raise OSError(
                errno.ENETDOWN, "; ".join(line.strip() for line in said.splitlines() if line.strip()) or "it has ended"
            )
        if not ready:
            raise OSError(errno.ETIMEDOUT, f"no device after {_SECONDS:.0f} s")
        links.discard()


def _exists(name: str) -> bool:
    return any(found == name for _, found in socket.if_nameindex())


def _prepare(uplink: Uplink, links: Netlink) -> tuple[Family, ...]:
    """Let packets out through the device of pasta, as far as the routes allow. Return the versions of IP that can go."""
    loopback_up()
    links.set_up(DEVICE, forwards=True, arp=False)  # pasta takes whatever arrives, for whichever neighbour it is
    families = []
    for family in uplink.families:
        if family is IPV6 and not _forward_ipv6() and uplink.ipv4:
            continue  # /proc/sys is read-only in most containers, and the kernel has no other switch for it
        whole = 128 if family is IPV6 else 32
        links.add_address(DEVICE, f"{family.gate}/{whole}")
        for prefix in family.forwarded:
            links.add_route(prefix, DEVICE)
        for prefix in family.refused:
            links.prohibit(prefix)
        families.append(family)
    links.wait_until_running(DEVICE)
    return tuple(families)


def _forward_ipv6() -> bool:
    """Let this namespace forward IPv6. Whether the machine lets it."""
    try:
        _write("/proc/sys/net/ipv6/conf/all/forwarding", "1")
    except OSError:
        return False
    return True


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode("ascii"))
    finally:
        os.close(fd)


def _wait_for_step(control: socket.socket, pidfd: int, links: Netlink, families: tuple[Family, ...]) -> None:
    """Connect the step, and wait until it or pasta has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(control, select.POLLIN)
    while not any(fd == pidfd for fd, _ in poll.poll()):
        word, fds, _, _ = socket.recv_fds(control, 1, 1, socket.MSG_CMSG_CLOEXEC)
        if not word:
            return
        (namespace,) = fds
        _connect(namespace, links, families)
        control.send(_READY)


def _connect(namespace: int, links: Netlink, families: tuple[Family, ...]) -> None:
    """Make the two ends of the way between step and gate. This process visits the network of the step for its end."""
    links.make_veth("step0", "eth0", namespace)
    links.set_up("step0", forwards=True)
    for family in families:
        links.add_address("step0", f"{family.gate}/{family.length}")
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    linux.setns(namespace, linux.CLONE_NEWNET)
    step = Netlink(watch_links=True)
    step.set_up("eth0")
    for family in families:
        step.add_address("eth0", f"{family.step}/{family.length}")
        step.add_route(family.everything, "eth0", family.gate)
    with suppress(OSError):  # as docker has it; where /proc/sys is read-only a user other than root has to do without
        _write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
    step.wait_until_running("eth0")
    linux.setns(own, linux.CLONE_NEWNET)
    links.wait_until_running("step0")
    step.close()
    os.close(own)
    os.close(namespace)
