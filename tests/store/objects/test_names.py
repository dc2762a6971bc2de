"""Names of images: one for each platform, in the order of their rows."""

from __future__ import annotations

import pytest

from pybuild.store.objects.names import current

A, B, C = (f"sha256:{digit * 64}" for digit in "abc")
AMD, ARM, OLD = "linux/amd64", "linux/arm64", ""
GONE = (None, "")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([], [], id="a name that was never set"),
        pytest.param([(A, AMD)], [A], id="one image"),
        pytest.param([(A, AMD), (B, AMD)], [B], id="the same platform: the newer one"),
        pytest.param([(A, AMD), (B, ARM)], [B, A], id="two platforms: both, the newest first"),
        pytest.param([(A, AMD), (B, ARM), (C, AMD)], [C, B], id="each platform has its newest"),
        pytest.param([(A, AMD), (B, ARM), GONE], [], id="removed from all"),
        pytest.param([(A, AMD), GONE, (B, ARM)], [B], id="nothing before a removal counts"),
        pytest.param([(A, OLD), (B, OLD)], [B], id="rows of older stores: the last one only"),
        pytest.param([(A, OLD), (B, ARM)], [B], id="a row of an older store ends with the next one"),
        pytest.param([(A, AMD), (B, OLD)], [B], id="a row that an older pybuild wrote"),
    ],
)
def test_the_tags_that_count(rows: list[tuple[str | None, str]], expected: list[str]) -> None:
    """`rows` are in the order in which they were written."""
    newest_first = [("app", manifest, at, platform, "", "") for at, (manifest, platform) in enumerate(rows)][::-1]
    assert [str(tag.manifest) for tag in current(newest_first)] == expected
