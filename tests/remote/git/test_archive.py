"""Subdirectories of a repository and the URLs of its submodules, without running git."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pybuild.remote.errors import RemoteError
from pybuild.remote.git.checkout import submodule_source
from pybuild.remote.git.process import Allowance
from pybuild.remote.git.subdirectory import entries_below
from pybuild.remote.git.url import parse_repository
from tests.support.tars import directory, entry, symlink, tar

if TYPE_CHECKING:
    from pathlib import Path

COMMIT = "1" * 40
TAR = tar(
    directory(b"a/"),
    directory(b"a/b/"),
    entry(b"a/b/text", data=b"text"),
    entry(b"a/b.txt", data=b""),
    symlink(b"out", b"/etc"),
    symlink(b"in", b"a"),
)


@pytest.fixture
def archive(tmp_path: Path) -> str:
    path = tmp_path / "tar"
    path.write_bytes(TAR)
    return str(path)


@pytest.mark.parametrize(
    ("subdir", "paths"),
    [("", [b"a", b"a/b", b"a/b/text", b"a/b.txt", b"in", b"out"]), ("a", [b"b", b"b/text", b"b.txt"]), ("a/b", [b"text"])],
)
def test_the_entries_of_a_subdirectory(subdir: str, paths: list[bytes], archive: str) -> None:
    assert [row.path for row in entries_below(archive, "r", subdir) if row.path] == paths


@pytest.mark.parametrize(
    ("subdir", "said"),
    [
        pytest.param("out", "r: out is not a directory of the repository", id="C3-a link to outside"),
        pytest.param("out/passwd", "r: out is not a directory of the repository", id="C3-through a link to outside"),
        pytest.param("in/b", "r: in is not a directory of the repository", id="C4-a link inside"),
        pytest.param("a/b/text", "r: a/b/text is not a directory of the repository", id="C4-a file"),
        pytest.param("a/none", "r: the repository has no directory a/none", id="nothing"),
        pytest.param(".git", "r: the repository has no directory .git", id="what was never written"),
    ],
)
def test_an_invalid_subdirectory(subdir: str, said: str, archive: str) -> None:
    with pytest.raises(RemoteError) as caught:
        entries_below(archive, "r", subdir)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("url", "remote"),
    [
        ("../x.git", "https://u:p@h.test/g/x.git"),
        ("https://o.test/x", "https://o.test/x"),
        ("git@o.test:x", "git@o.test:x"),
        ("git://o.test/x", "git://o.test/x"),
    ],
)
def test_a_submodule_on_a_server(url: str, remote: str) -> None:
    found = submodule_source(parse_repository("https://u:p@h.test/g/r.git#v1:sub", "abcd"), url, COMMIT)
    assert (found.remote, found.ref, found.commit, found.subdir, found.checksum) == (remote, COMMIT, COMMIT, "", "")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        pytest.param("file:///etc", "is not the URL of a repository", id="C5-files of this machine"),
        pytest.param("/etc", "is not the URL of a repository", id="C6-a path"),
        pytest.param("ext::sh -c touch% evil", "is not the URL of a repository", id="C5-a program"),
        pytest.param("-u./evil", "is not the URL of a repository", id="C5-an option"),
        pytest.param("ssh://-oProxyCommand=x/r", "is not a host name", id="C5-an option of ssh"),
        pytest.param("../../../../x", "leads above the root of the server", id="out of the server"),
        pytest.param("https://h.test/r.git#main", "is not the URL of a repository", id="a reference of its own"),
        pytest.param("http://u:p@h.test/r", "the password would be sent unencrypted", id="a password for everybody"),
        pytest.param("a\nb", "invalid characters in a URL", id="two lines"),
    ],
)
def test_a_submodule_at_an_invalid_url(url: str, said: str) -> None:
    with pytest.raises(RemoteError) as caught:
        submodule_source(parse_repository("https://h.test/g/r.git"), url, COMMIT)
    assert said in str(caught.value)


def test_all_fetches_share_one_allowance() -> None:
    now = [0.0]
    allowance = Allowance(10, 100, 1000, "the limits", clock=lambda: now[0])
    allowance.check("r", 1000)
    with pytest.raises(RemoteError, match=r"^r: more than the limit of 1000 bytes$"):
        allowance.check("r", 1001)
    allowance.add_finished(400)
    with pytest.raises(RemoteError, match="more than the limit"):
        allowance.check("r", 601)
    now[0] = 14.0
    allowance.check("r", 0)
    now[0] = 14.1
    with pytest.raises(RemoteError, match=r"^r: not done after 14 s and 400 bytes$") as caught:
        allowance.check("r", 0)
    assert caught.value.hint == "the limits"
