"""The trial of what the kernel refuses to a step, in a real namespace and with calls that fail."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, NoReturn

import pytest

from pybuild.builder.sandbox import linux, trial
from pybuild.builder.sandbox.trial import HOST_NAME, PROC, SYS, refused_pieces

if TYPE_CHECKING:
    from tests.builder.sandbox.conftest import EnterNamespaces, InChild


def refuse(*_: object) -> NoReturn:
    raise OSError(errno.EPERM, "no")


def test_a_machine_refuses_nothing(in_child: InChild, enter_namespaces: EnterNamespaces) -> None:
    def job() -> tuple[dict[str, str], str, str]:
        before = socket.gethostname()
        enter_namespaces()
        return refused_pieces(), before, socket.gethostname()

    refused, before, after = in_child(job)
    assert refused == {}
    assert after == before


@pytest.mark.parametrize(
    ("module", "name", "pieces"),
    [(socket, "sethostname", {HOST_NAME}), (trial, "new_mount", {PROC, SYS}), (linux, "unshare", set())],
)
def test_what_is_refused_is_named(
    monkeypatch: pytest.MonkeyPatch,
    in_child: InChild,
    enter_namespaces: EnterNamespaces,
    module: object,
    name: str,
    pieces: set[str],
) -> None:
    def job() -> dict[str, str]:
        enter_namespaces()
        monkeypatch.setattr(module, name, refuse)
        return refused_pieces()

    refused = in_child(job)
    assert set(refused) == pieces
    assert set(refused.values()) <= {os.strerror(errno.EPERM)}
