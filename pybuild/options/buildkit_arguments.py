"""Build arguments that BuildKit takes for switches of its own: what they mean here, or why they are refused.

A value that asks for what is done anyway may be given. The recipe can declare any of them as an ARG, too. Where an argument
means something elsewhere, it is not looked at here: BUILDKIT_DOCKERFILE_CHECK in builder/plan/lint.py, BUILDKIT_CACHE_MOUNT_NS
in builder/plan/mounts.py, BUILDKIT_CONTEXT_KEEP_GIT_DIR in builder/sources/contexts.py. BUILDKIT_SBOM_SCAN_CONTEXT and BUILDKIT_SBOM_SCAN_STAGE choose what --sbom looks at, and do nothing
without it. https://docs.docker.com/reference/dockerfile/#buildkit-built-in-build-args
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import click

from pybuild.builder.options import HOSTNAME

_FALSE = frozenset(("", "0", "f", "false"))  # as Go's strconv.ParseBool, in any case
_REFUSED = {
    "BUILDKIT_INLINE_CACHE": "images carry no cache; every build uses what the store has",
    "BUILDKIT_MULTI_PLATFORM": "one build is for one platform, and its image stands in no list of platforms",
}
_HOSTNAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)  # as long as the kernel takes one: uname(2)


def check_controls(args: Mapping[str, str]) -> None:
    """Raises UsageError at an argument that asks for what is not done."""
    if syntax := args.get("BUILDKIT_SYNTAX"):
        raise click.UsageError(
            f"--build-arg BUILDKIT_SYNTAX={syntax}: no other frontend is fetched and run; leave the argument out"
        )
    for name, why in _REFUSED.items():
        value = args.get(name, "")
        if value.lower() not in _FALSE:
            raise click.UsageError(f"--build-arg {name}={value}: {why}")


def step_hostname(args: Mapping[str, str]) -> str:
    """What RUN steps find as the name of their machine. Raises UsageError."""
    name = args.get("BUILDKIT_SANDBOX_HOSTNAME") or HOSTNAME
    if not _HOSTNAME.fullmatch(name):
        raise click.UsageError(
            f"--build-arg BUILDKIT_SANDBOX_HOSTNAME={name}: expected up to 64 letters, digits, dots and hyphens"
        )
    return name


def build_name(args: Mapping[str, str]) -> str | None:
    """What `pybuild logs` calls the build, if it is to be called anything."""
    return args.get("BUILDKIT_BUILD_NAME") or None
