"""A repository at its server: which commit a reference is, and getting that commit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.remote.errors import RemoteError
from pybuild.remote.git.access import place_of
from pybuild.remote.git.process import Allowance, Git, GitFailed
from pybuild.remote.git.url import FoundCommit, check_ref, is_hash
from pybuild.remote.http.urls import printable

if TYPE_CHECKING:
    from pybuild.remote.git.access import Access
    from pybuild.remote.git.url import RepositorySource

_LIST_LIMIT = 1 << 20  # bytes of the references that were asked for
# What servers and git say where only whole branches can be had, or nothing without all of its history.
_NOT_ALONE = (
    "not our ref", "unadvertised object", "does not allow request", "couldn't find remote ref", "shallow", "--depth",
    "dumb http",
)  # fmt: skip


class GitServer:
    """The server of one repository. `directory` is where git keeps what it gets; nothing need be there."""

    def __init__(
        self, source: RepositorySource, access: Access, directory: str, allowance: Allowance | None = None
    ) -> None:
        """Over http, ask for the place. An `allowance` may be shared with others. Raises RemoteError, StoreError."""
        limits = access.limits
        self._source = source
        self.who = printable(source.shown)
        place = place_of(source, access, f"{directory}.pem")
        self._url = place.url
        allowance = allowance or Allowance(
            limits.blob_seconds,
            limits.blob_rate,
            limits.download_bytes,
            "limits.blob-seconds and limits.blob-rate set the time",
        )
        self.git = Git(self.who, directory, allowance, access.path, place.settings, place.environment)
        self._asking = replace(
            self.git,
            allowance=Allowance(
                limits.header_seconds, limits.blob_rate, limits.download_bytes, "limits.header-seconds sets the time"
            ),
        )

    def resolve(self) -> FoundCommit:
        """Ask what the reference is at the moment. Raises RemoteError where there is none, or the checksum is another's."""
        source = self._source
        if source.commit is not None:
            return _checked(source, FoundCommit(source.commit, ""), self.who)
        ref = source.ref or "HEAD"
        names = ["HEAD"]
        if ref != "HEAD":
            # The order is that of BuildKit: a full name, a branch, a tag.
            names = [
                f"refs/{ref.removeprefix('refs/')}",
                f"refs/heads/{ref.removeprefix('refs/heads/')}",
                f"refs/tags/{ref.removeprefix('refs/tags/')}",
            ]
        asked = [*names, *(f"{name}^{{}}" for name in names if name.startswith("refs/tags/"))]
        answer = self._asking.run("ls-remote", "--quiet", "--symref", "--", self._url, *asked, limit=_LIST_LIMIT)
        found: dict[str, str] = {}
        symbolic = ""
        for line in answer.decode("utf-8", "replace").splitlines():
            value, _, name = line.partition("\t")
            if value.startswith("ref: ") and name == "HEAD":
                symbolic = value.removeprefix("ref: ")
            elif is_hash(value):
                found.setdefault(name, value)
        for name in names:
            if name in found:
                tag = found[name] if f"{name}^{{}}" in found else ""
                commit = found.get(f"{name}^{{}}", found[name])
                full = _branch(symbolic) if name == "HEAD" else name
                return _checked(source, FoundCommit(commit, full, tag), self.who)
        what = f"no branch or tag {printable(source.ref)!r}" if source.ref else "no branch that is its own"
        short = source.ref and all(digit in "0123456789abcdef" for digit in source.ref)
        raise RemoteError(
            f"{self.who}: the repository has {what}",
            hint="a commit is named by all of its 40 digits" if short else None,
        )

    def fetch(self, resolved: FoundCommit) -> None:
        """Bring the commit, as far as possible without what came before it, into the directory. Raises RemoteError."""
        size = "sha256" if len(resolved.commit) == 64 else "sha1"
        self.git.run("init", "--quiet", "--bare", "--template=", f"--object-format={size}", "--", self.git.directory)
        wanted = resolved.tag or resolved.commit
        attempts = [("--depth=1", wanted)]
        if resolved.ref:
            attempts += [("--depth=1", resolved.ref), ("", resolved.ref)]
        attempts += [("", "+refs/heads/*:refs/heads/*")]
        for number, (depth, spec) in enumerate(attempts):
            try:
                self._fetch(
                    *([depth] if depth else []), spec=[spec, *(["+refs/tags/*:refs/tags/*"] if "*" in spec else [])]
                )
            except GitFailed as error:
                if number + 1 == len(attempts) or not any(words in error.said for words in _NOT_ALONE):
                    raise
                continue
            if self._has(wanted) and self._has(f"{resolved.commit}^{{commit}}"):
                return
        raise RemoteError(f"{self.who}: the server has no commit {resolved.commit}")

    def _fetch(self, *options: str, spec: list[str]) -> None:
        fixed = (
            "--quiet",
            "--force",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-auto-maintenance",
            "--update-head-ok",
        )
        self.git.run("fetch", *fixed, *options, "--", self._url, *spec)

    def _has(self, name: str) -> bool:
        try:
            self.git.run("cat-file", "-e", name)
        except GitFailed:
            return False
        return True


def _branch(name: str) -> str:
    """What the server says its own branch is called; "" where no branch can be called so."""
    try:
        check_ref(name)
    except ValueError:
        return ""
    return name if name.startswith("refs/heads/") else ""


def _checked(source: RepositorySource, resolved: FoundCommit, who: str) -> FoundCommit:
    if resolved.commit.startswith(source.checksum) or (resolved.tag and resolved.tag.startswith(source.checksum)):
        return resolved
    got = f"{resolved.commit} (of the tag {resolved.tag})" if resolved.tag else resolved.commit
    raise RemoteError(f"{who}: expected a commit {source.checksum}…, got {got}")
