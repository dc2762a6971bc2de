"""The options of `pybuild build` about how RUN steps run, and what they can read and reach."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

import click

from pybuild.builder.limits import ULIMITS, UNLIMITED, StepLimits, Ulimit
from pybuild.builder.on_failure import OnFail
from pybuild.builder.options import (
    HOST_GATEWAY,
    AgentSource,
    Entitlement,
    Isolation,
    Network,
    SecretSource,
    Snapshotter,
)
from pybuild.options.arguments import size_option
from pybuild.options.emulators import EMULATOR_HELP, parse_emulators
from pybuild.options.groups import OptionGroup
from pybuild.options.on_failure import HELP as ON_FAIL_HELP
from pybuild.options.on_failure import parse_on_fail
from pybuild.options.secrets import SECRET_HELP, SSH_HELP, parse_agents, parse_secrets
from pybuild.values import frozen

_Kind = TypeVar("_Kind", bound=Enum)
_MIN_MEMORY = 16 << 20  # bytes; pybuild's own processes in a step need some of it
_MAX_CPUS = 4096
_DECIMAL = r"\d{1,4}(\.\d{1,9})?|\.\d{1,9}"


@frozen
class StepOptions:
    """How RUN steps run."""

    jobs: int  # steps that run at once
    network: Network
    isolation: Isolation
    emulators: Mapping[str, str]  # processor -> path
    snapshots: Snapshotter
    allow: frozenset[Entitlement]
    secrets: tuple[SecretSource, ...]
    agents: tuple[AgentSource, ...]
    hosts: tuple[tuple[str, str], ...]  # name, address
    limits: StepLimits
    on_fail: OnFail


def _step_options(
    *,
    jobs: int,
    network: str,
    isolation: str,
    emulator: tuple[str, ...],
    snapshots: str,
    allow: tuple[str, ...],
    secret: tuple[str, ...],
    ssh: tuple[str, ...],
    add_host: tuple[str, ...],
    shm_size: str | None,
    ulimit: tuple[str, ...],
    memory: str | None,
    cpus: str | None,
    pids_limit: int | None,
    on_fail: tuple[str, ...],
) -> StepOptions:
    return StepOptions(
        jobs=jobs,
        network=Network(network),
        isolation=parse_isolation(isolation),
        emulators=parse_emulators(emulator),
        snapshots=parse_snapshots(snapshots),
        allow=frozenset(map(Entitlement, allow)),
        secrets=parse_secrets(secret),
        agents=parse_agents(ssh),
        hosts=tuple(map(_host, add_host)),
        limits=StepLimits(_shm_size(shm_size), _ulimits(ulimit), _memory(memory), _cpus(cpus), pids_limit),
        on_fail=parse_on_fail(on_fail),
    )


def parse_isolation(value: str) -> Isolation:
    """Raises click.UsageError."""
    return _one_of("--isolation", Isolation, value)


def parse_snapshots(value: str) -> Snapshotter:
    """Raises click.UsageError."""
    return _one_of("--snapshots", Snapshotter, value)


def _one_of(option: str, kind: type[_Kind], value: str) -> _Kind:
    try:
        return kind(value)
    except ValueError:
        names = ", ".join(one.value for one in kind)
        raise click.UsageError(f"{option} {value}: expected one of {names}") from None


def _host(value: str) -> tuple[str, str]:
    """NAME:ADDRESS or NAME=ADDRESS; an IPv6 address can be in brackets. Raises click.UsageError."""
    name, separator, address = value.partition("=" if "=" in value else ":")
    if not name or not separator or any(character.isspace() or character == "#" for character in name):
        raise click.UsageError(f"--add-host {value}: expected NAME:ADDRESS")
    if address == HOST_GATEWAY:
        return name, address
    import ipaddress  # a local import: few builds add hosts

    try:
        return name, str(ipaddress.ip_address(address.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise click.UsageError(f"--add-host {value}: {address!r} is not an IP address") from None


def _shm_size(text: str | None) -> int:
    size = size_option("--shm-size", text)
    if size == 0:
        raise click.UsageError("--shm-size: at least 1 byte")
    return StepLimits().shm_size if size is None else size


def _memory(text: str | None) -> int | None:
    size = size_option("--memory", text)
    if size is not None and size < _MIN_MEMORY:
        raise click.UsageError(f"--memory {text}: at least 16m, or nothing can start")
    return size


def _cpus(text: str | None) -> float | None:
    if text is None:
        return None
    if not re.fullmatch(_DECIMAL, text, re.ASCII) or not 0.01 <= float(text) <= _MAX_CPUS:
        raise click.UsageError(f"--cpus {text}: expected a number from 0.01 to {_MAX_CPUS}")
    return float(text)


def _ulimits(values: tuple[str, ...]) -> tuple[Ulimit, ...]:
    """NAME=SOFT[:HARD]; the last value of a name counts. Raises click.UsageError."""
    ulimits = {}
    for value in values:
        name, _, texts = value.partition("=")
        soft, colon, hard = texts.partition(":")
        if name not in ULIMITS:
            raise click.UsageError(f"--ulimit {value}: expected NAME=SOFT[:HARD], NAME one of {', '.join(ULIMITS)}")
        ulimit = Ulimit(name, _ulimit_number(value, soft), _ulimit_number(value, hard if colon else soft))
        if ulimit.hard != UNLIMITED and not 0 <= ulimit.soft <= ulimit.hard:
            raise click.UsageError(f"--ulimit {value}: the soft limit is above the hard one")
        ulimits[name] = ulimit
    return tuple(ulimits.values())


def _ulimit_number(value: str, text: str) -> int:
    if text in ("-1", "unlimited"):
        return UNLIMITED
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise click.UsageError(f"--ulimit {value}: expected a number, -1 or unlimited, not {text!r}")
    return int(text)


STEPS = OptionGroup(
    "steps",
    "RUN steps",
    _step_options,
    (
        click.Option(
            ["--jobs"],
            type=click.IntRange(1),
            default=16,
            show_default=True,
            metavar="N",
            help="How many RUN steps can run at once.",
        ),
        click.Option(
            ["--network"],
            type=click.Choice([kind.value for kind in Network]),
            default="default",
            show_default=True,
            help="What RUN steps can reach: a network of their own where pasta (Debian: passt) works, else that of this "
            "machine (default); nothing (none); the network of this machine, with what listens on its loopback (host).",
        ),
        click.Option(
            ["--isolation"],
            default="full",
            show_default=True,
            envvar="PYBUILD_ISOLATION",
            metavar="[auto|full|container|in-place]",
            help="What keeps RUN steps apart from this machine. container is for containers that refuse a part of full, "
            "in-place keeps nothing apart and works in pybuild's own image only; auto takes the best that works. "
            "[PYBUILD_ISOLATION]",
        ),
        click.Option(["--emulator"], multiple=True, metavar="ARCH=PATH", help=EMULATOR_HELP),
        click.Option(
            ["--snapshots"],
            default="auto",
            show_default=True,
            envvar="PYBUILD_SNAPSHOTS",
            metavar="[auto|overlay|copy]",
            help="How RUN steps see the layers below them: through an overlay, or in copies of all files, which is slower and "
            "works on every filesystem. auto copies only where no overlay can be mounted. [PYBUILD_SNAPSHOTS]",
        ),
        click.Option(
            ["--allow"],
            multiple=True,
            type=click.Choice([kind.value for kind in Entitlement]),
            help="Let RUN use --network=host (network.host) or --security=insecure (security.insecure). Can be repeated.",
        ),
        click.Option(["--secret"], multiple=True, metavar="SPEC", help=SECRET_HELP),
        click.Option(["--ssh"], multiple=True, metavar="SPEC", help=SSH_HELP),
        click.Option(
            ["--add-host"],
            multiple=True,
            metavar="NAME:ADDRESS",
            help="Add a line to /etc/hosts of RUN steps. The address host-gateway is this machine. Can be repeated.",
        ),
        click.Option(["--shm-size"], metavar="SIZE", help="The size of /dev/shm in RUN steps. [default: 64m]"),
        click.Option(
            ["--ulimit"],
            multiple=True,
            metavar="NAME=SOFT[:HARD]",
            help="Limit each process of RUN steps, as in nofile=1024:2048. Can be repeated.",
        ),
        click.Option(
            ["-m", "--memory"], metavar="SIZE", help="Limit the memory of each RUN step, swap included: 512m, 1g."
        ),
        click.Option(["--cpus"], metavar="N", help="Limit the processors of each RUN step, as in 1.5."),
        click.Option(
            ["--pids-limit"],
            type=click.IntRange(1),
            metavar="N",
            help="Limit the processes and threads of each RUN step.",
        ),
        click.Option(["--on-fail"], multiple=True, metavar="ACTION", help=ON_FAIL_HELP),
    ),
)
