"""Image names are read as Docker reads them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.reference import Reference

A = "sha256:" + "a" * 64
PROPERTY = settings(max_examples=300)


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("debian", "docker.io/library/debian:latest", "debian:latest"),
        ("debian:bookworm", "docker.io/library/debian:bookworm", "debian:bookworm"),
        ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("docker.io/library/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("index.docker.io/library/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("library/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("team/app:1.0", "docker.io/team/app:1.0", "team/app:1.0"),
        ("host:5000/app", "host:5000/app:latest", "host:5000/app:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("ghcr.io/a/b/c:x", "ghcr.io/a/b/c:x", "ghcr.io/a/b/c:x"),
        ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
        ("Host/app", "Host/app:latest", "Host/app:latest"),
        (f"debian@{A}", f"docker.io/library/debian@{A}", f"debian@{A}"),
        (f"debian:12@{A}", f"docker.io/library/debian:12@{A}", f"debian:12@{A}"),
        ("docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest"),
        ("docker.io/localhost/c", "docker.io/localhost/c:latest", "docker.io/localhost/c:latest"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("library/scratch", "docker.io/library/scratch:latest", "scratch:latest"),
        ("a_b/c__d/e.f-g---h", "docker.io/a_b/c__d/e.f-g---h:latest", "a_b/c__d/e.f-g---h:latest"),
    ],
)
def test_names_are_read_as_docker_reads_them(text: str, full: str, familiar: str) -> None:
    found = Reference.parse(text).with_default_tag()
    assert (str(found), found.familiar) == (full, familiar)
    assert Reference.parse(str(found)) == found
    assert Reference.parse(familiar) == found


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "Debian", "debian:", "debian:-x", "debian:" + "x" * 129, "/debian", "debian/", "a//b", "../x", "a/../b",
        "a..b", "a___b", "-a", "a-", "host:port/app", "http://host/app", "app@", "app@sha256:abc",
        "app:tag:tag", "a" * 256, "a" * 5000, "a" * 64, "scratch", "débian", "app\n", "app:tag\n", "a b", "a\0b",
        "[::1/app", "-host.com/app",
    ],
)  # fmt: skip
def test_an_invalid_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidImage):
        Reference.parse(text)


@given(st.text(alphabet=st.sampled_from("aB0._-/:@[]\n é"), max_size=40))
@PROPERTY
def test_any_text_is_refused_or_a_name_that_reads_back(text: str) -> None:
    try:
        found = Reference.parse(text)
    except InvalidImage:
        return
    assert Reference.parse(str(found)) == found
    assert Reference.parse(found.familiar) == found
