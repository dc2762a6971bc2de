"""A user namespace for one step alone, below that of the worker.

Steps beside each other, and the processes of pybuild in the namespace above, then cannot be traced or signalled by a step,
whatever of them it sees: the kernel asks for capabilities in the namespace of the target. The command enters it right
before it gives up its privileges. Everything is mounted by then and belongs to the namespace above, so no capability that
the command keeps can change a mount.

Only a process of the namespace above may write the maps; user_namespaces(7). So init does, through the /proc that it had
before it changed its root.
"""

from __future__ import annotations

import os
import socket

from pybuild.builder.sandbox import gate, linux
from pybuild.builder.sandbox.loopback import loopback_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.builder.sandbox.spec import SandboxSpec


class OwnIds:
    """Made by init before it changes its root; `write_maps` is for init, `enter` for the command, a child of it."""

    def __init__(self, maps: tuple[str, str], way: socket.socket | None = None) -> None:
        """`way` is the socket of the gate to the network, if the step has one."""
        self._maps = maps
        self._way = way
        self._proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._init, self._command = socket.socketpair()

    def enter(self, spec: SandboxSpec) -> None:
        """Make the namespace and wait for its maps. Raises OSError."""
        self._init.close()
        flags = linux.CLONE_NEWUSER
        if spec.new_network:
            flags |= linux.CLONE_NEWNET  # one that belongs to this namespace: low ports and raw sockets work in it
        if spec.insecure:
            flags |= linux.CLONE_NEWNS
        linux.set_dumpable(True)  # otherwise the maps in /proc belong to a user that init need not be
        linux.unshare(flags)
        self._command.send(os.readlink("self", dir_fd=self._proc).encode("ascii"))
        if not self._command.recv(1):
            raise OSError("process 1 of the step has ended")
        if spec.new_network:
            loopback_up()
        if self._way is not None:
            network = os.open("self/ns/net", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
            gate.connect(self._way, network)
            os.close(network)
            gate.wait(self._way)

    def write_maps(self) -> None:
        """Write the maps, when the command has made the namespace. Raises OSError."""
        self._command.close()
        pid = self._init.recv(32).decode("ascii")
        if pid:  # otherwise the command has ended, and has said why
            for kind, text in zip(("uid", "gid"), self._maps, strict=True):
                fd = os.open(f"{pid}/{kind}_map", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._proc)
                os.write(fd, text.encode("ascii"))
                os.close(fd)
            self._init.send(b".")
        self._init.close()
        os.close(self._proc)
