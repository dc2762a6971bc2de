"""Names, numbers and masks of capabilities, and the bounding set of a real process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybuild.builder.sandbox import capabilities, linux

if TYPE_CHECKING:
    from tests.builder.sandbox.conftest import EnterNamespaces, InChild


def test_numbers_are_those_of_the_kernel_header() -> None:
    # A few from every part of include/uapi/linux/capability.h.
    header = {
        "CAP_CHOWN": 0,
        "CAP_SETPCAP": 8,
        "CAP_NET_RAW": 13,
        "CAP_SYS_CHROOT": 18,
        "CAP_SYS_ADMIN": 21,
        "CAP_MKNOD": 27,
        "CAP_SETFCAP": 31,
        "CAP_MAC_OVERRIDE": 32,
        "CAP_PERFMON": 38,
        "CAP_CHECKPOINT_RESTORE": 40,
    }
    assert {name: capabilities.NAMES.index(name) for name in header} == header
    assert len(capabilities.NAMES) == len(set(capabilities.NAMES)) == 41


def test_the_default_is_dockers_mask() -> None:
    assert len(capabilities.DEFAULT) == 14
    assert capabilities.mask(capabilities.DEFAULT) == capabilities.DEFAULT_MASK
    assert f"{capabilities.DEFAULT_MASK:016x}" == "00000000a80425fb"


@given(st.frozensets(st.sampled_from(capabilities.NAMES)))
def test_mask_and_names_are_inverse(names: frozenset[str]) -> None:
    assert capabilities.names(capabilities.mask(names)) == names


def test_unknown_bits_have_no_name() -> None:
    assert capabilities.names(1 << 63 | 1) == {"CAP_CHOWN"}


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown capability CAP_FLY"):
        capabilities.mask(["CAP_CHOWN", "CAP_FLY"])


def test_a_process_is_limited_to_the_default(in_child: InChild, enter_namespaces: EnterNamespaces) -> None:
    def job() -> dict[str, str]:
        enter_namespaces()
        capabilities.limit_bounding_set(capabilities.DEFAULT_MASK)
        linux.capset(capabilities.DEFAULT_MASK, capabilities.DEFAULT_MASK, 0)
        lines = Path("/proc/self/status").read_text().splitlines()
        return dict(line.split(":\t") for line in lines if line.startswith("Cap"))

    default, none = "00000000a80425fb", "0000000000000000"
    wanted = {"CapInh": none, "CapPrm": default, "CapEff": default, "CapBnd": default, "CapAmb": none}
    assert in_child(job) == wanted


def test_without_setpcap_the_bounding_set_cannot_be_limited(
    in_child: InChild, enter_namespaces: EnterNamespaces
) -> None:
    def job() -> None:
        enter_namespaces()
        linux.capset(0, 0, 0)
        capabilities.limit_bounding_set(0)

    with pytest.raises(PermissionError, match="prctl"):
        in_child(job)
