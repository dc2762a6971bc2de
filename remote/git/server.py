"""One repository on its server: which commit a reference names, and fetching that commit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.remote.errors import GitFailed, RemoteError
from pybuild.remote.git.access import git_remote_of
from pybuild.remote.git.process import Allowance, Git
from pybuild.remote.git.url import FoundCommit, check_ref, is_hash
from pybuild.remote.http.urls import printable
from pybuild.values.limits import BLOB_SECONDS, GIT_REFERENCES, HEADER_SECONDS

if TYPE_CHECKING:
    from pybuild.remote.git.access import GitAccess
    from pybuild.remote.git.url import RepositorySource

# Messages of servers and git which mean that only whole branches can be fetched, or only with all of their history.
_NO_SINGLE_COMMIT = (
    "not our ref", "unadvertised object", "does not allow request", "couldn't find remote ref", "shallow", "--depth",
    "dumb http",
)  # fmt: skip


class GitServer:
    """The server of one repository. git stores what it fetches in `directory`, which need not exist."""

    def __init__(
        self, source: RepositorySource, access: GitAccess, directory: str, allowance: Allowance | None = None
    ) -> None:
        """Over http this sends a first request. Repositories can share an `allowance`.

        Raises RemoteError, NotFound, OSError.
        """
        limits = access.limits
        self._source = source
        self.name = printable(source.redacted)
        remote = git_remote_of(source, access, f"{directory}.pem")
        self._url = remote.url
        allowance = allowance or Allowance(
            limits.blob_seconds,
            limits.blob_rate,
            limits.download_bytes,
            BLOB_SECONDS.hint(),
        )
        self.git = Git(self.name, directory, allowance, access.path, remote.settings, remote.environment)
        self._query = replace(
            self.git,
            allowance=Allowance(limits.header_seconds, limits.blob_rate, limits.download_bytes, HEADER_SECONDS.hint()),
        )

    def resolve(self) -> FoundCommit:
        """Ask which commit the reference names now. Raises RemoteError if it does not exist, or its checksum differs."""
        source = self._source
        if source.commit is not None:
            return _verify_checksum(source, FoundCommit(source.commit, ""), self.name)
        ref = source.ref or "HEAD"
        names = ["HEAD"]
        if ref != "HEAD":
            # BuildKit's order: a full name, a branch, a tag.
            names = [
                f"refs/{ref.removeprefix('refs/')}",
                f"refs/heads/{ref.removeprefix('refs/heads/')}",
                f"refs/tags/{ref.removeprefix('refs/tags/')}",
            ]
        asked = [*names, *(f"{name}^{{}}" for name in names if name.startswith("refs/tags/"))]
        answer = self._query.run(
            "ls-remote", "--quiet", "--symref", "--", self._url, *asked, limit=GIT_REFERENCES.value
        )
        found: dict[str, str] = {}
        symbolic = ""
        for line in answer.decode("utf-8", "replace").split("\n"):
            value, _, name = line.partition("\t")
            if value.startswith("ref: ") and name == "HEAD":
                symbolic = value.removeprefix("ref: ")
            elif is_hash(value):
                found.setdefault(name, value)
        for name in names:
            if name in found:
                tag = found[name] if f"{name}^{{}}" in found else ""
                commit = found.get(f"{name}^{{}}", found[name])
                full = _valid_branch(symbolic) if name == "HEAD" else name
                return _verify_checksum(source, FoundCommit(commit, full, tag), self.name)
        missing = f"no branch or tag {printable(source.ref)!r}" if source.ref else "no default branch"
        short = source.ref and all(digit in "0123456789abcdef" for digit in source.ref)
        raise RemoteError(
            f"{self.name}: the repository has {missing}",
            hint="give all 40 digits of a commit" if short else None,
        )

    def fetch(self, resolved: FoundCommit) -> None:
        """Fetch the commit into the directory, without its history if the server allows that. Raises RemoteError."""
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
                if number + 1 == len(attempts) or not any(words in error.stderr for words in _NO_SINGLE_COMMIT):
                    raise
                continue
            if self._has(wanted) and self._has(f"{resolved.commit}^{{commit}}"):
                return
        raise RemoteError(f"{self.name}: the server has no commit {resolved.commit}")

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


def _valid_branch(name: str) -> str:
    """The server's name for its default branch; "" if that is not a valid name of a branch."""
    try:
        check_ref(name)
    except ValueError:
        return ""
    return name if name.startswith("refs/heads/") else ""


def _verify_checksum(source: RepositorySource, resolved: FoundCommit, name: str) -> FoundCommit:
    if resolved.commit.startswith(source.checksum) or (resolved.tag and resolved.tag.startswith(source.checksum)):
        return resolved
    got = f"{resolved.commit} (of the tag {resolved.tag})" if resolved.tag else resolved.commit
    raise RemoteError(f"{name}: expected a commit {source.checksum}…, got {got}")
