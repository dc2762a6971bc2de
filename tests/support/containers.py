"""Containers in which tests run pybuild, by name."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tests.support.cli import SCRIPT, Done, Pybuild
from tests.support.container_config import (
    DOCKER_CAPABILITIES,
    DOCKER_PROFILE,
    Surroundings,
)
from tests.support.people import Person

_IN_CONTAINER = str(Path(__file__).with_name("in_container.py"))
_FIRST_ID = 600_000
PODMAN = Surroundings()
DOCKER = Surroundings(DOCKER_PROFILE, DOCKER_CAPABILITIES)
CONTAINERS = {
    "podman": PODMAN,
    "docker": DOCKER,
    "seccomp-off": replace(DOCKER, profile=None),
    "unmasked": replace(PODMAN, masked=False),
    "unconfined": replace(DOCKER, profile=None, masked=False),
    "65536-ids": replace(PODMAN, first_id=_FIRST_ID),
    "pod-with-ids": replace(DOCKER, profile=None, first_id=_FIRST_ID),  # hostUsers: false
    "unmasked-pod-with-ids": replace(DOCKER, profile=None, masked=False, first_id=_FIRST_ID),
    "read-only": replace(PODMAN, read_only=True),
    "user-1000": replace(PODMAN, user=1000),
    "no-volume": replace(PODMAN, overlay_store=True),
    "user-1000-no-volume": replace(PODMAN, user=1000, overlay_store=True),
    "docker-user-1000": replace(DOCKER, user=1000),
}


def make_container(name: str, **changes: object) -> Person:
    """Somebody who runs pybuild in a container. The home is its volume, with the store. Remove it with `people.forget`."""
    surroundings = replace(CONTAINERS[name], **changes)  # type: ignore[arg-type]
    outside = surroundings.user + (surroundings.first_id or 0)
    home = Path(tempfile.mkdtemp(prefix="pybuild-test-", dir="/var/tmp"))
    os.chown(home, outside, outside)
    home.chmod(0o755)
    fields = {**asdict(surroundings), "profile": surroundings.profile and str(surroundings.profile)}
    prefix = (sys.executable, _IN_CONTAINER, json.dumps(fields), str(home))
    return Person(name, outside, prefix, home)


def make_own_image(image: str = "", **changes: object) -> OwnImage:
    """Somebody who runs pybuild in its own image, in a container that allows no namespaces and, unless changed, has only loopback.

    `image` is the directory of the image; "": one that is made of this machine. The home is a volume in /mnt.
    """
    surroundings = replace(DOCKER, home=image, **{"network": False, **changes})  # type: ignore[arg-type]
    home = Path(tempfile.mkdtemp(prefix="pybuild-test-", dir="/mnt"))
    home.chmod(0o755)
    os.chown(home, surroundings.user, surroundings.user)
    fields = {**asdict(surroundings), "profile": surroundings.profile and str(surroundings.profile)}
    prefix = (sys.executable, _IN_CONTAINER, json.dumps(fields), str(home))
    return OwnImage("own-image", surroundings.user, prefix, home)


@dataclass(frozen=True)
class OwnImage(Person):
    """Somebody in pybuild's own image."""

    def pybuild(self, **environment: str) -> Pybuild:
        path = "/pybuild/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        own = {"PYBUILD_ISOLATION": "auto", "PATH": path, "HOME": "/root"}
        return Pybuild(self.home / "store", {**own, **environment}, (*self.prefix, "/pybuild/bin/pybuild"))

    def shell(self, text: str, **environment: str) -> Done:
        """Run a shell script in one container; what it leaves outside of the home is gone afterwards."""
        return replace(self.pybuild(**environment), command=(*self.prefix, "/bin/sh", "-c", text)).run()


def in_shell(person: Person, text: str) -> tuple[str, ...]:
    """A command for a shell in the container; `pybuild` is the command."""
    return (*person.prefix, "/bin/sh", "-c", f'pybuild() {{ {SCRIPT} "$@"; }}\n{text}')
