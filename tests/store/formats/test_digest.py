"""Digests: only registered algorithms and exact lengths are accepted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.digest import Digest

A = "sha256:" + "a" * 64
PROPERTY = settings(max_examples=300)


@pytest.mark.parametrize("text", [A, "sha256:" + "0123456789abcdef" * 4, "sha512:" + "f" * 128])
def test_a_registered_digest_is_read_and_written_unchanged(text: str) -> None:
    assert str(Digest.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:../../x",
        "sha256:/etc/passwd",
        "sha256:%2e%2e",
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:" + "a" * 128,
        "sha512:" + "a" * 64,
        "sha256:" + "a" * 63 + "/",
        "sha256:" + "a" * 64 + "\n",
        "sha256:" + "\u0661" * 64,
        "md5:" + "a" * 32,
        "SHA256:" + "a" * 64,
        " " + A,
        A + ":" + "b",
        "a" * 64,
    ],
)
def test_any_other_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidImage, match="invalid digest"):
        Digest.parse(text)


@given(st.text())
@PROPERTY
def test_any_text_is_a_digest_or_refused(text: str) -> None:
    try:
        found = Digest.parse(text)
    except InvalidImage:
        return
    assert str(found) == text
