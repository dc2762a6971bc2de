"""What a recipe says about the directories of a stage: which exist, with which mode and owner.

Only the recipe is read, never the base, so what the checks say does not depend on the images in the store. The
directories that nearly every Linux image has are known too: Filesystem Hierarchy Standard 3.0.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT_OWNER = "root"
_DEFAULT = 0o755
_MOST = 1000  # directories and scripts of a stage; of a longer recipe too little is known to warn
_STANDARD_MODES = {
    "/dev/shm": 0o1777,
    "/root": 0o700,
    "/run/lock": 0o1777,
    "/tmp": 0o1777,
    "/var/local": 0o2775,
    "/var/lock": 0o1777,
    "/var/mail": 0o2775,
    "/var/tmp": 0o1777,
}
_STANDARD = frozenset((
    *_STANDARD_MODES, "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt", "/proc", "/run",
    "/sbin", "/srv", "/sys", "/usr", "/usr/bin", "/usr/include", "/usr/lib", "/usr/local", "/usr/local/bin", "/usr/local/etc",
    "/usr/local/include", "/usr/local/lib", "/usr/local/sbin", "/usr/local/share", "/usr/local/src", "/usr/sbin", "/usr/share",
    "/usr/src", "/var", "/var/cache", "/var/lib", "/var/log", "/var/opt", "/var/run", "/var/spool",
))  # fmt: skip


@frozen
class KnownDirectory:
    """The mode of a directory, and its owner as the recipe writes it: `root`, or a name or number."""

    mode: int = _DEFAULT
    owner: str = ROOT_OWNER


def owner_of(text: str | None) -> str:
    """The owner that a USER or a --chown gives: `root` for 0 and for nothing, without the group."""
    user = (text or "").partition(":")[0]
    return user if user not in ("", "0") else ROOT_OWNER


def parents(path: str) -> Iterator[str]:
    """The directories above a path, the highest first, without the root."""
    names = [name for name in path.split("/") if name][:-1]
    for count in range(1, len(names) + 1):
        yield "/" + "/".join(names[:count])


class ImageDirectories:
    """The directories of one stage. `standard`: whether the stage starts from an image, which has the usual ones."""

    def __init__(self, *, standard: bool, below: ImageDirectories | None = None) -> None:
        self._standard: bool = standard if below is None else below._standard
        self._made: dict[str, KnownDirectory] = {} if below is None else dict(below._made)
        # The working directory; None if the base sets it.
        self._workdir: str | None = below._workdir if below is not None else None if standard else "/"
        self._possible: set[str] = set() if below is None else set(below._possible)
        self._scripts: list[str] = [] if below is None else list(below._scripts)

    def absolute(self, path: str) -> str | None:
        """A path joined to the working directory, and normalized; None if that depends on the base."""
        if self._workdir is None and not path.startswith("/"):
            return None
        return posixpath.normpath("/" + posixpath.join(self._workdir or "/", path).lstrip("/"))

    def change_to(self, path: str | None, owner: str) -> None:
        """A WORKDIR makes its directory, owned by the user, and changes to it. None: its path is not known."""
        self._workdir = None if path is None else self.absolute(path)
        if self._workdir is not None:
            self.make(self._workdir, KnownDirectory(owner=owner))

    def find(self, path: str) -> KnownDirectory | None:
        """The directory, if the recipe or the standard says what it is."""
        if path in self._made:
            return self._made[path]
        if self._standard and path in _STANDARD and not self._may_be_changed(path):
            return KnownDirectory(_STANDARD_MODES.get(path, _DEFAULT))
        return None

    def may_exist(self, path: str) -> bool:
        """Whether the recipe makes the directory, or an instruction that names it could have done so."""
        path = posixpath.normpath(path)
        return (
            len(self._made) >= _MOST
            or path in self._made
            or len(self._possible) >= _MOST
            or path in self._possible
            or (self._standard and path in _STANDARD)
            or self._is_mentioned(path)
        )

    def make(self, path: str, directory: KnownDirectory) -> None:
        """An instruction makes a directory with its parents. One that exists stays as it is."""
        for each in (*parents(path), path):
            if not self.may_exist(each):
                self._made[each] = directory

    def may_make(self, path: str) -> None:
        """A COPY makes a file or a directory, whatever its source is."""
        if len(self._possible) < _MOST:
            self._possible.add(path)

    def replace(self, path: str, directory: KnownDirectory) -> None:
        """A COPY --link makes a directory anew."""
        if path in self._made or len(self._made) < _MOST:
            self._made[path] = directory

    def run(self, script: str) -> None:
        """A RUN can change every directory that it names."""
        if len(self._scripts) < _MOST:
            self._scripts.append(script)
        for path in [path for path in self._made if path in script]:
            del self._made[path]

    def _is_mentioned(self, path: str) -> bool:
        return path != "/" and (len(self._scripts) >= _MOST or any(path in script for script in self._scripts))

    def _may_be_changed(self, path: str) -> bool:
        """Whether a RUN names a standard directory beside a command that changes modes or owners."""
        changing = (path in script and ("chmod" in script or "chown" in script) for script in self._scripts)
        return len(self._scripts) >= _MOST or any(changing)
