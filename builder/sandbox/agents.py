"""A relay between one step and the user's SSH agents.

Agents talk to their owner only, and a step can run as any user. So a relay process, which runs as the owner and outside
the step's root, listens on the sockets that the step sees. It passes on two harmless requests: list the keys, and sign.
It answers every other request with failure: those that change the agent (add, remove, lock), and extensions.

Source: draft-ietf-sshm-ssh-agent, sections 3 to 6: a length of four bytes, big-endian, then one byte for the type.
"""

from __future__ import annotations

import os
import select
import socket
import struct

from pybuild.builder.sandbox import linux

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_HARMLESS = frozenset((11, 13))  # SSH_AGENTC_REQUEST_IDENTITIES, SSH_AGENTC_SIGN_REQUEST
_FAILURE = struct.pack(">IB", 1, 5)  # SSH_AGENT_FAILURE
_LENGTH = struct.Struct(">I")
_FRAME_LIMIT = 256 << 10  # bytes, as in OpenSSH
_CONNECTIONS = 64  # at a time; later ones wait
_PIECE = 1 << 16


def start(parent_signal: int) -> tuple[int, int]:
    """Fork the relay. Return its pid and the socket that sends it listeners; the relay ends when that is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _serve(theirs, parent, parent_signal)
    theirs.close()
    return pid, ours.detach()


def _serve(control: socket.socket, parent: int, parent_signal: int) -> NoReturn:
    try:
        linux.set_pdeathsig(parent_signal)
        fd = control.fileno()
        linux.close_range(fd + 1)
        linux.close_range(3, fd - 1)  # this process must not have outputs and secrets
        if os.getppid() == parent:
            AgentRelay(control).run()
    finally:
        os._exit(0)


class AgentRelay:
    """Serves all connections between a step and agents in one loop."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._listeners: dict[int, tuple[socket.socket, str]] = {}  # with the path of the agent
        self._clients: dict[int, Connection] = {}
        self._agents: dict[int, Connection] = {}

    def run(self) -> None:
        """Serve until the control socket is closed."""
        while True:
            poll = select.poll()
            for fd in (self._control.fileno(), *self._clients, *self._agents):
                poll.register(fd, select.POLLIN)
            if len(self._clients) < _CONNECTIONS:
                for fd in self._listeners:
                    poll.register(fd, select.POLLIN)
            for fd, _ in poll.poll():
                if fd == self._control.fileno():
                    if not self._new_listener():
                        return
                elif fd in self._listeners:
                    self._accept(*self._listeners[fd])
                elif (connection := self._clients.get(fd) or self._agents.get(fd)) is not None:
                    passed = connection.from_client() if fd in self._clients else connection.from_agent()
                    if not passed:
                        self._close(connection)

    def _new_listener(self) -> bool:
        path, fds, _, _ = socket.recv_fds(self._control, 1 << 12, 1, socket.MSG_CMSG_CLOEXEC)
        for fd in fds:
            self._listeners[fd] = (socket.socket(fileno=fd), os.fsdecode(path))
        return bool(path)

    def _accept(self, listener: socket.socket, path: str) -> None:
        client, _ = listener.accept()
        agent = socket.socket(socket.AF_UNIX)
        try:
            agent.connect(path)
        except OSError:
            # The agent is gone: end the connection of the program in the step.
            client.close()
            agent.close()
            return
        connection = Connection(client, agent)
        self._clients[client.fileno()] = self._agents[agent.fileno()] = connection

    def _close(self, connection: Connection) -> None:
        del self._clients[connection.client.fileno()], self._agents[connection.agent.fileno()]
        connection.client.close()
        connection.agent.close()


class Connection:
    """A connection of a program in the step, and the matching one to the agent.

    Writes block, so a program that does not read its answers stops the relay; that harms its own step only.
    """

    def __init__(self, client: socket.socket, agent: socket.socket) -> None:
        self.client = client
        self.agent = agent
        self._buffer = b""

    def from_client(self) -> bool:
        """Pass on complete harmless requests. Return whether the connection continues."""
        try:
            data = self.client.recv(_PIECE)
            self._buffer += data
            while len(self._buffer) > _LENGTH.size:
                length = _LENGTH.unpack_from(self._buffer)[0]
                if not 0 < length <= _FRAME_LIMIT:
                    return False
                frame, rest = self._buffer[: _LENGTH.size + length], self._buffer[_LENGTH.size + length :]
                if len(frame) < _LENGTH.size + length:
                    break
                self._buffer = rest
                if frame[_LENGTH.size] in _HARMLESS:
                    self.agent.sendall(frame)
                else:
                    self.client.sendall(_FAILURE)
        except OSError:
            return False
        return bool(data)

    def from_agent(self) -> bool:
        """Pass on an answer. Return whether the connection continues."""
        try:
            data = self.agent.recv(_PIECE)
            self.client.sendall(data)
        except OSError:
            return False
        return bool(data)
