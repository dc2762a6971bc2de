"""Options of podman and buildah that pybuild does not have: the usage error says what to use in their place.

Source: podman-build(1) and buildah-build(1).
"""

from __future__ import annotations

import click

from pybuild.options.arguments import refused_option

_SWITCHES = {
    "--squash-all": "an image keeps its layers; type=tar writes the root filesystem as one tar, for pybuild import",
    "--pull-always": "write --pull=always",
    "--pull-never": "write --pull=never",
}
_VALUES = {
    "--cache-ttl": "a key says whether a record is right, however old it is; --no-cache uses none",
    "--authfile": "set REGISTRY_AUTH_FILE",
    "--creds": "log in with docker login or podman login; pybuild reads their files",
    "--cert-dir": "name the certificates with ca-files in the configuration file",
    "--timestamp": "it gives every file the same time; --source-date-epoch bounds the times of files, and sets all others",
    "--arch": "write --platform OS/ARCH",
    "--os": "write --platform OS/ARCH",
    "--variant": "write --platform OS/ARCH/VARIANT",
    "--builder": "pybuild has no builders: it builds in its own process",
    "--security-opt": "the sandbox of a RUN cannot be changed; --allow security.insecure permits RUN --security=insecure",
    "--cap-add": "the capabilities of a RUN are docker's; --allow security.insecure permits RUN --security=insecure",
    "--cgroup-parent": "the cgroups of steps are below that of pybuild; start pybuild in the cgroup that you want",
    "-v": "use RUN --mount=type=bind with --build-context, or RUN --mount=type=cache",
    "--volume": "use RUN --mount=type=bind with --build-context, or RUN --mount=type=cache",
    "--device": "a RUN has docker's devices and no others",
    "--env": "write ENV into the recipe, or ARG and --build-arg",
    "--ignorefile": "name the ignore file RECIPE.dockerignore, or .dockerignore",
    "--memory-swap": "--memory limits memory and swap together",
    "--cpu-period": "write --cpus N",
    "--cpu-quota": "write --cpus N",
    "--cpu-shares": "write --cpus N",
    "--cpuset-cpus": "start pybuild with taskset",
    "--cpuset-mems": "start pybuild with numactl",
}


def ported_options() -> tuple[click.Option, ...]:
    """The options, which --help does not show."""
    return (
        *(refused_option(name, reason, is_flag=True) for name, reason in _SWITCHES.items()),
        *(refused_option(name, reason) for name, reason in _VALUES.items()),
    )
