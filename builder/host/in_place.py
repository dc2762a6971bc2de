"""What running steps in the root of the container needs, and what of that root is left alone."""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING

from pybuild.builder.errors import PrivilegeError
from pybuild.builder.host.id_map import effective_capabilities
from pybuild.builder.host.mountinfo import own_mounts
from pybuild.builder.sandbox import capabilities
from pybuild.builder.sandbox.container_root import HOME, entered
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

NEEDED = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID", "CAP_SYS_CHROOT")
SCRATCH = f"{HOME}/tmp"  # a directory on the filesystem of the container's root
# Engines mount them, and a program that looks up a name between two steps needs them where they do not.
_NAME_SERVICE = ("/etc/resolv.conf", "/etc/hosts")
_OF_THE_ENGINE = frozenset(("/dev", "/proc", "/sys", "/run", "/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/tmp"))
_OF_EVERY_IMAGE = frozenset(
    [
        "bin",
        "boot",
        "dev",
        "etc",
        "home",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "media",
        "mnt",
        "opt",
        "proc",
        "root",
        "run",
        "sbin",
        "srv",
        "sys",
        "tmp",
        "usr",
        "var",
    ]
)
_WAIT_SECONDS, _PAUSE_SECONDS = 5.0, 0.05
_PAGE = "docs/user/containers.md"


def require_in_place() -> None:
    """Raise PrivilegeError if steps cannot run in the root of this container, with what is missing."""
    if not entered():
        raise PrivilegeError(
            "the isolation in-place works only in pybuild's own image, as root with CAP_SYS_CHROOT: elsewhere a RUN would replace"
            " the files of this machine",
            hint=f"start pybuild by {HOME}/bin/pybuild of the image; {_PAGE} has examples",
        )
    if lacking := lacking_capabilities():
        names = ", ".join(lacking)
        raise PrivilegeError(
            f"running steps in the root of this container needs {names}",
            hint=f"add {'them' if len(lacking) > 1 else 'it'} to the container: --cap-add, or capabilities.add of a pod",
        )


def lacking_capabilities() -> list[str]:
    """The needed capabilities that this process does not have; CAP_SETUID and the like only help root."""
    own = effective_capabilities()
    return [name for name in NEEDED if not own >> capabilities.NAMES.index(name) & 1]


def lock_root() -> int:
    """A descriptor that has the container's root until all its copies are closed: the worker of the steps has one too.

    What a killed build has started ends within a moment. Raises PrivilegeError if another build has the root.
    """
    fd = os.open(HOME, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    end = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() < end:
                time.sleep(_PAUSE_SECONDS)
                continue
            os.close(fd)
            raise PrivilegeError(
                "another build of this container runs steps in its root",
                hint="build one image after the other, or each in a container of its own",
            ) from None


def restore_name_service() -> None:
    """Put back what name service needs, if a step has removed it and the engine has not mounted it. Raises OSError."""
    for path in _NAME_SERVICE:
        if not os.path.lexists(path) and os.path.exists(HOME + path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(HOME + path, "rb") as source, open(path, "xb") as target:
                target.write(source.read())


@frozen
class HeldPaths:
    """What steps leave alone, with all that is below it: absolute paths.

    `volumes` are those of them that the user of the container has put there.
    """

    paths: tuple[str, ...]
    volumes: tuple[str, ...]


def held_paths(store: str, keep: Iterable[str]) -> HeldPaths:
    """The mounts of the container, pybuild itself, its store, and the files of this build.

    Raises PrivilegeError if a path of `keep` is in the root that steps replace, and in a directory that every image has.
    """
    mounts = {mount.mount_point for mount in own_mounts()} - {"/"}
    own = {HOME, os.path.realpath(store), *_NAME_SERVICE}
    kept = set()
    for path in keep:
        place = os.path.realpath(path) if path and os.path.exists(path) else ""
        if not place or _is_below(place, mounts | own):
            continue
        if place == "/" or (place.count("/") == 1 and place[1:] in _OF_EVERY_IMAGE):
            raise PrivilegeError(
                f"{path} is in the root of this container, which RUN steps replace",
                hint="files of a build belong on a volume, or in a directory that no image has, such as /workspace",
            )
        kept.add(place)
    here = os.getcwd()
    if not (here == "/" or (here.count("/") == 1 and here[1:] in _OF_EVERY_IMAGE)):
        kept.add(os.path.realpath(here))
    found = {path for path in mounts | own | kept if not _is_below(os.path.dirname(path), mounts | own | kept)}
    user = {path for path in found - own if not _is_below(path, _OF_THE_ENGINE)}
    return HeldPaths(tuple(sorted(found)), tuple(sorted(user)))


def _configuration(environ: Mapping[str, str]) -> Iterator[str]:
    """Where the user's logins and settings can be: a push after the last step needs them."""
    yield from (
        f"{environ.get('HOME', '/root')}/{name}" for name in (".docker", ".config/pybuild", ".config/containers")
    )
    yield from (
        environ[name] for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "PYBUILD_CONFIG") if environ.get(name)
    )


def _is_of_every_image(path: str) -> bool:
    return path == "/" or (path.count("/") == 1 and path[1:] in _OF_EVERY_IMAGE)


def _is_below(path: str, others: set[str] | frozenset[str]) -> bool:
    """Whether a path is one of the others, or below one."""
    while path != "/":
        if path in others:
            return True
        path = os.path.dirname(path)
    return False
