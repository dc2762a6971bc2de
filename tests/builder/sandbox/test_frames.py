"""Frames between the main process and its workers."""

from __future__ import annotations

import os
import resource
import select
import socket
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.sandbox.frames import Channel

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    here, there = map(Channel, socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM))
    yield here, there
    here.close()
    there.close()


def same_file(one: int, other: int) -> bool:
    return os.path.samestat(os.fstat(one), os.fstat(other))


def test_descriptors_arrive_with_their_own_frame(ends: tuple[Channel, Channel]) -> None:
    """The frames are all sent before the first one is read, so one read can return parts of several."""
    here, there = ends
    reader, writer = os.pipe()
    here.send({"n": 1})
    here.send({"n": 2}, [reader, writer])
    here.send({"n": 3})
    here.send({"n": 4}, [writer])
    received = [there.receive() for _ in range(4)]
    assert [message for message, _ in received] == [{"n": number} for number in range(1, 5)]
    assert [len(fds) for _, fds in received] == [0, 2, 0, 1]
    assert same_file(received[1][1][0], reader) and same_file(received[1][1][1], writer)
    assert same_file(received[3][1][0], writer)
    for fd in (reader, writer, *(fd for _, fds in received for fd in fds)):
        os.close(fd)


def test_a_message_that_came_with_another_is_not_waited_for(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    here.send({"n": 1})
    here.send({"n": 2})
    assert not there.has_message()  # nothing was read yet: the socket is readable
    there.receive()
    assert there.has_message()
    assert not select.select([there], [], [], 0)[0]
    there.receive()
    assert not there.has_message()


def test_a_frame_comes_in_pieces(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    source, sink = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with source, sink:
        Channel(source).send({"text": "x" * 1000}, [sink.fileno()])
        data, fds, _, _ = socket.recv_fds(sink, 1 << 16, 4)
        pid = os.fork()
        if pid == 0:
            socket.send_fds(here.socket, [data[:1]], fds)
            for byte in data[1:]:
                here.socket.send(bytes((byte,)))
            os._exit(0)
        message, received = there.receive()
        os.waitpid(pid, 0)
    assert (message, len(received)) == ({"text": "x" * 1000}, 1)
    for fd in (*fds, *received):
        os.close(fd)


def test_the_end_of_the_other_side_is_an_eoferror(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    there.close()
    with pytest.raises(EOFError):
        here.receive()
    with pytest.raises(EOFError):
        here.send({"n": 1})


def test_lost_descriptors_do_not_shift_those_of_later_frames(ends: tuple[Channel, Channel]) -> None:
    """A process that can open no more gets fewer descriptors than were sent, or none: the kernel drops them."""
    here, there = ends
    reader, writer = os.pipe()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd"))) + 1
    here.send({"n": 1}, [reader, reader, reader])
    here.send({"n": 2}, [reader])
    here.send({"n": 3}, [writer])
    here.send({"n": 4})
    free = next(number for number in range(used + 1) if not os.path.exists(f"/proc/self/fd/{number}"))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))  # room for one
        for _ in range(2):  # the second frame comes with the first read that has room again, or is lost as well
            with pytest.raises(OSError, match="Too many open files"):
                there.receive()
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    message, (received,) = there.receive()
    assert message == {"n": 3} and same_file(received, writer)
    assert there.receive() == ({"n": 4}, [])
    for fd in (reader, writer, received):
        os.close(fd)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "is not a JSON object"),
    ],
)
def test_a_damaged_frame_is_the_end_of_the_connection(ends: tuple[Channel, Channel], text: bytes, said: str) -> None:
    here, there = ends
    here.socket.sendall(len(text).to_bytes(4, "big") + b"\0" + text)
    with pytest.raises(EOFError, match=said):
        there.receive()
