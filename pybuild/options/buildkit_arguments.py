"""Build arguments that BuildKit reads as switches of its own: what they do here, or why pybuild refuses them.

An argument can be given if it asks for what pybuild does anyway, and a recipe can declare any of them as an ARG. Other
modules read those that matter there: BUILDKIT_DOCKERFILE_CHECK in builder/plan/lint.py, BUILDKIT_CACHE_MOUNT_NS in
builder/plan/mounts.py, BUILDKIT_CONTEXT_KEEP_GIT_DIR in builder/sources/contexts.py. BUILDKIT_SBOM_SCAN_CONTEXT and
BUILDKIT_SBOM_SCAN_STAGE select what --sbom scans and have no effect without it. Source:
https://docs.docker.com/reference/dockerfile/#buildkit-built-in-build-args
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import click

from pybuild.builder.options import HOSTNAME

_FALSE = frozenset(("", "0", "f", "false"))  # as Go's strconv.ParseBool, in any case
_TRUE = frozenset(("1", "t", "true"))
_REFUSED = {
    "BUILDKIT_MULTI_PLATFORM": "a build makes one image for one platform, not an index of images",
}
_HOSTNAME = r"[A-Za-z0-9._-]{1,64}"  # 64 is the kernel's limit: sethostname(2)


def check_controls(args: Mapping[str, str]) -> None:
    """Raises click.UsageError if an argument asks for something that pybuild does not do."""
    if syntax := args.get("BUILDKIT_SYNTAX"):
        raise click.UsageError(
            f"--build-arg BUILDKIT_SYNTAX={syntax}: pybuild does not fetch and run other frontends;"
            " leave out the argument"
        )
    for name, reason in _REFUSED.items():
        value = args.get(name, "")
        if value.lower() not in _FALSE:
            raise click.UsageError(f"--build-arg {name}={value}: {reason}")


def step_hostname(args: Mapping[str, str]) -> str:
    """The host name of RUN steps. Raises click.UsageError."""
    name = args.get("BUILDKIT_SANDBOX_HOSTNAME")
    if not name:
        return HOSTNAME
    if not re.fullmatch(_HOSTNAME, name, re.ASCII):
        raise click.UsageError(
            f"--build-arg BUILDKIT_SANDBOX_HOSTNAME={name}: expected up to 64 letters, digits, dots and hyphens"
        )
    return name


def inline_cache(args: Mapping[str, str]) -> bool:
    """Whether the image gets an inline cache, as with --cache-to type=inline. Raises click.UsageError."""
    value = args.get("BUILDKIT_INLINE_CACHE", "")
    if value.lower() not in _TRUE | _FALSE:
        raise click.UsageError(f"--build-arg BUILDKIT_INLINE_CACHE={value}: it can be 1 or 0")
    return value.lower() in _TRUE


def build_name(args: Mapping[str, str]) -> str | None:
    """The name that `pybuild logs --list` shows for the build, or None."""
    return args.get("BUILDKIT_BUILD_NAME") or None
