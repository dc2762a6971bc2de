"""The gate between the network of one step and pasta: uplink.py says what it is for.

    sandbox worker --fork--> gate --fork--> pasta, in the machine's network namespace
                             in a namespace of its own, with the tap device of pasta

When the gate gets the network namespace of a step, it connects it with its own. It ends, and pasta with it, when all the others
have closed their end of its socket, when pasta ends, and when its parent dies.

Most steps send nothing, and pasta takes more time to start than the rest of their network. So, except for a trial, it starts when
the first packet wants to go out: that and those after it wait in a device of the gate, and then go over that of pasta.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import socket
import struct
from contextlib import suppress

from pybuild.builder.sandbox import linux
from pybuild.builder.sandbox.loopback import loopback_up
from pybuild.builder.sandbox.netlink import Netlink
from pybuild.builder.sandbox.report import reason
from pybuild.builder.sandbox.uplink import DEVICE, HELD, IPV6, TUN

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
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # include/uapi/linux/if_tun.h
_ETH_P_IP, _ETH_P_IPV6, _PACKET = 0x0800, 0x86DD, 1 << 16
_PACKETS: Final = 500  # as many as the device of pasta keeps
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


def failure(gate: socket.socket) -> str:
    """Why a step that was connected has lost its network; "" if it has not."""
    try:
        text = gate.recv(_TEXT, socket.MSG_DONTWAIT)
    except OSError:
        return ""
    return "" if text == _READY else text.decode("utf-8", "replace")


def _serve(uplink: Uplink, control: socket.socket, parent: int, proof: bool) -> NoReturn:
    doing = "prepare the way to the network"
    pids: list[int] = []
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
        doing = "prepare the way to the network"
        pasta = _Pasta(uplink, pids)
        linux.unshare(linux.CLONE_NEWNET)
        network = _Network(uplink)
        linux.capset(_CAPABILITIES, _CAPABILITIES, 0)
        if listener is None:
            network.hold()
        else:
            doing = "start pasta"
            pasta.start(network.links)
            network.open()
            doing = "reach this machine through pasta"
            with listener, socket.socket(listener.family, socket.SOCK_STREAM) as probe:
                probe.settimeout(_PROOF_SECONDS)
                probe.connect(listener.getsockname())
                control.send(_READY)
        doing = "connect the step to the network through pasta"
        _wait_for_step(control, pasta, network)
    except BaseException as error:
        with suppress(OSError):
            control.send(f"cannot {doing}: {reason(error)}".encode("utf-8", "replace")[:_TEXT])
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os._exit(0)


def _listener(uplink: Uplink) -> socket.socket:
    """A socket that listens on the address of this machine to which packets of steps can go."""
    listener = socket.socket(socket.AF_INET if uplink.ipv4 else socket.AF_INET6, socket.SOCK_STREAM)
    listener.bind((uplink.ipv4 or uplink.ipv6, 0))  # no name is looked up: modules for that cannot be imported here
    listener.listen(1)
    return listener


class _Pasta:
    """The process that becomes pasta when `start` is called. It is forked before, in the network namespace of the machine.

    It ends with this process. `pidfd` becomes readable when it has ended.
    """

    def __init__(self, uplink: Uplink, pids: list[int]) -> None:
        begin, self._go = os.pipe2(os.O_CLOEXEC)
        self._output, output = os.pipe2(
            os.O_CLOEXEC | os.O_NONBLOCK
        )  # pasta must not wait for a reader of its messages
        gate = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.close(self._go)
            _become_pasta(uplink, begin, output, gate)
        pids.append(pid)
        os.close(begin)
        os.close(output)
        self.pidfd = os.pidfd_open(pid)

    def start(self, links: Netlink) -> None:
        """Start it, and wait until its device is there. Raises OSError with what pasta said, if it ends instead."""
        os.write(self._go, b".")
        poll = select.poll()
        poll.register(links, select.POLLIN)
        poll.register(self.pidfd, select.POLLIN)
        while not _exists(DEVICE):
            ready = [fd for fd, _ in poll.poll(int(1000 * _SECONDS))]
            if self.pidfd in ready:
                raise self.ended()
            if not ready:
                raise OSError(errno.ETIMEDOUT, f"no device after {_SECONDS:.0f} s")
            links.discard()

    def ended(self) -> OSError:
        """What it said before it has ended, as an error."""
        try:
            said = os.read(self._output, _TEXT).decode("utf-8", "replace")
        except BlockingIOError:  # a process that it has started lives on
            said = ""
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        return OSError(errno.ENETDOWN, "; ".join(lines) or "it has ended")


def _become_pasta(uplink: Uplink, begin: int, output: int, gate: int) -> NoReturn:
    try:
        linux.set_pdeathsig(signal.SIGKILL)
        if os.getppid() != gate or not os.read(begin, 1):
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


class _Network:
    """The network namespace of the gate, which this process has just entered."""

    def __init__(self, uplink: Uplink) -> None:
        self.links = Netlink(watch_links=True)
        self._frames = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)
        self.held = -1
        self._packets: list[bytes] = []
        loopback_up()
        # /proc/sys is read-only in most containers, and the kernel has no other switch for IPv6.
        self.families = tuple(
            family for family in uplink.families if family is not IPV6 or _forward_ipv6() or not uplink.ipv4
        )
        for family in self.families:
            for prefix in family.refused:
                self.links.prohibit(prefix)

    def hold(self) -> None:
        """Let packets that want to go out wait in a device of this process, `held`, from which they can be read."""
        self.held = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(self.held, _TUNSETIFF, struct.pack("16sH22x", HELD.encode("ascii"), _IFF_TUN | _IFF_NO_PI))
        self.links.set_up(HELD, arp=False)
        self._route(HELD)

    def open(self) -> None:
        """Let packets go out over the device of pasta, also those that are held."""
        self.links.set_up(
            DEVICE, forwards=True, arp=False
        )  # pasta takes whatever arrives, for whichever neighbour it is
        for family in self.families:
            self.links.add_address(DEVICE, f"{family.gate}/{128 if family is IPV6 else 32}")
        self.links.wait_until_running(DEVICE)
        self._route(DEVICE)
        if self.held >= 0:
            self.has_packets()
            for packet in self._packets:
                kind = _ETH_P_IPV6 if packet[0] >> 4 == 6 else _ETH_P_IP
                self._frames.sendto(packet, (DEVICE, kind, 0, 0, bytes(6)))
            self._packets.clear()
            os.close(self.held)
            self.held = -1

    def has_packets(self) -> bool:
        """Whether a packet is held. What the kernel itself says on the new device, to all its neighbours, is none."""
        with suppress(BlockingIOError):
            while packet := os.read(self.held, _PACKET):
                to_all = packet[24] == 0xFF if packet[0] >> 4 == 6 else packet[16] >> 4 == 0xE
                if not to_all and len(self._packets) < _PACKETS:
                    self._packets.append(packet)
        return bool(self._packets)

    def _route(self, device: str) -> None:
        for family in self.families:
            for prefix in family.forwarded:
                self.links.add_route(prefix, device)


def _exists(name: str) -> bool:
    return any(found == name for _, found in socket.if_nameindex())


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


def _wait_for_step(control: socket.socket, pasta: _Pasta, network: _Network) -> None:
    """Connect the step, start pasta when it is needed, and wait until the step has ended. Raises OSError if pasta ends first."""
    while True:
        poll = select.poll()
        for fd in (pasta.pidfd, control.fileno(), network.held):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        ready = [fd for fd, _ in poll.poll()]
        if pasta.pidfd in ready:
            raise pasta.ended()
        if control.fileno() in ready:
            word, fds, _, _ = socket.recv_fds(control, 1, 1, socket.MSG_CMSG_CLOEXEC)
            if not word:
                return
            (namespace,) = fds
            _connect(namespace, network.links, network.families)
            control.send(_READY)
        elif network.held in ready and network.has_packets():
            pasta.start(network.links)
            network.open()


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
