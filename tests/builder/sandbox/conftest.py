"""Changing a whole process without affecting the tests: a forked child, and a user namespace with capabilities."""

from __future__ import annotations

import gc
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from pybuild.builder.sandbox import linux

T = TypeVar("T")


class InChild(Protocol):
    """Run `job` in a forked child; return what it returned or raise what it raised."""

    def __call__(self, job: Callable[[], T]) -> T: ...


def _in_child(job: Callable[[], T]) -> T:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        gc.freeze()  # what earlier tests left to be collected stays: its descriptors must not close in the middle
        try:
            answer = pickle.dumps((True, job()))
        except BaseException as error:
            answer = pickle.dumps((False, error))
        os.write(writer, answer)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(pid, 0)
    if not data:
        raise AssertionError(f"the child ended without an answer, wait status {status:#x}")
    succeeded, value = pickle.loads(data)
    if not succeeded:
        raise value
    return value  # type: ignore[no-any-return]


@pytest.fixture
def in_child() -> InChild:
    return _in_child


class EnterNamespaces(Protocol):
    """Make this process root of a new user namespace with one id, with private mounts. For forked children only."""

    def __call__(self, flags: int = 0) -> None: ...


def _enter_namespaces(flags: int = 0) -> None:
    uid, gid = os.geteuid(), os.getegid()
    linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS | flags)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    linux.mount(None, b"/", None, linux.MS_REC | linux.MS_PRIVATE)


@pytest.fixture
def enter_namespaces() -> EnterNamespaces:
    return _enter_namespaces
