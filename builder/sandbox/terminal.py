"""A terminal for the command of a step, made in the step's own devpts. The main process gets its master.

So the step never holds a terminal of this machine, where it could type into other processes (TIOCSTI), and the
terminal's name exists inside the step. Source: pty(7), unix(7), ioctl_tty(2).
"""

from __future__ import annotations

import fcntl
import os
import socket

_TIOCSCTTY = 0x540E  # the same on all architectures that syscalls.py supports


def open_terminal(uid: int, connection: int) -> int:
    """Make a terminal owned by a user, send its master over a connected socket, return its slave. Raises OSError."""
    master, slave = os.openpty()
    try:
        os.fchown(slave, uid, -1)
        with socket.socket(fileno=os.dup(connection)) as sock:
            socket.send_fds(sock, [b"t"], [master])
    finally:
        os.close(master)
    return slave


def receive_terminal(sock: socket.socket) -> int | None:
    """The master that the step sends; None if the step ended before."""
    _, fds, _, _ = socket.recv_fds(sock, 1, 1, socket.MSG_CMSG_CLOEXEC)
    return fds[0] if fds else None


def take_control() -> None:
    """Make the terminal on standard input the controlling one of this session, which must have none. Raises OSError."""
    fcntl.ioctl(0, _TIOCSCTTY, 0)
