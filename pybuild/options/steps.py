"""The options of `pybuild build` about how RUN steps run, and those of docker that have only one answer here."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from pybuild.builder.limits import ULIMITS, UNLIMITED, StepLimits, Ulimit
from pybuild.builder.on_failure import OnFail
from pybuild.options.arguments import size_option
from pybuild.options.on_failure import HELP as ON_FAIL_HELP
from pybuild.options.on_failure import on_fail_option
from pybuild.values import frozen

F = TypeVar("F", bound=Callable[..., Any])

_LEAST_MEMORY = 16 << 20  # bytes; the processes of a step that are ours need some too
_MOST_CPUS = 4096
_DECIMAL = re.compile(r"\d{1,4}(\.\d{1,9})?|\.\d{1,9}", re.ASCII)
_CACHE = "every build uses what the store has; keep the store (--root) between builds instead"
_PUSH = (
    "pushing is not supported; write an archive with -o type=oci and push that, as with skopeo copy oci-archive:FILE"
)


@frozen
class StepOptions:
    """How RUN steps run."""

    hosts: tuple[tuple[str, str], ...]  # name, address
    limits: StepLimits
    on_fail: OnFail


def _hosts(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """NAME:ADDRESS or NAME=ADDRESS, an IPv6 address with or without brackets."""
    found = []
    for value in values:
        name, separator, address = value.partition("=" if "=" in value else ":")
        if not name or not separator or any(character.isspace() or character == "#" for character in name):
            raise click.UsageError(f"--add-host {value}: expected NAME:ADDRESS")
        if address == "host-gateway":
            raise click.UsageError(
                f"--add-host {value}: there is no gateway; a step with a network has that of this machine: 127.0.0.1"
            )
        try:
            found.append((name, str(ipaddress.ip_address(address.removeprefix("[").removesuffix("]")))))
        except ValueError:
            raise click.UsageError(f"--add-host {value}: {address!r} is no IP address") from None
    return tuple(found)


def _shm_size(ctx: click.Context, parameter: click.Parameter, text: str | None) -> int:
    size = size_option("--shm-size", text)
    if size == 0:
        raise click.UsageError("--shm-size: at least 1 byte")
    return StepLimits().shm_size if size is None else size


def _memory(ctx: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    size = size_option("--memory", text)
    if size is not None and size < _LEAST_MEMORY:
        raise click.UsageError(f"--memory {text}: at least 16m, or nothing can start")
    return size


def _cpus(ctx: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    if not _DECIMAL.fullmatch(text) or not 0.01 <= float(text) <= _MOST_CPUS:
        raise click.UsageError(f"--cpus {text}: expected a number from 0.01 to {_MOST_CPUS}")
    return float(text)


def _ulimits(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[Ulimit, ...]:
    """NAME=SOFT[:HARD]; of one name the last counts."""
    found = {}
    for value in values:
        name, _, texts = value.partition("=")
        soft, colon, hard = texts.partition(":")
        if name not in ULIMITS:
            raise click.UsageError(f"--ulimit {value}: expected NAME=SOFT[:HARD] with NAME of {', '.join(ULIMITS)}")
        ulimit = Ulimit(name, _ulimit(value, soft), _ulimit(value, hard if colon else soft))
        if ulimit.hard != UNLIMITED and not 0 <= ulimit.soft <= ulimit.hard:
            raise click.UsageError(f"--ulimit {value}: the soft limit is above the hard one")
        found[name] = ulimit
    return tuple(found.values())


def _ulimit(value: str, text: str) -> int:
    if text in ("-1", "unlimited"):
        return UNLIMITED
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise click.UsageError(f"--ulimit {value}: expected a number, -1 or unlimited, not {text!r}")
    return int(text)


def _no_attestation(ctx: click.Context, parameter: click.Parameter, text: str | None) -> None:
    if text is not None and text.lower() not in ("false", "0", "disabled"):
        raise click.UsageError(
            f"--{parameter.name}={text}: no attestations are made; only --{parameter.name}=false is taken"
        )


def _refuse(why: str) -> Callable[[click.Context, click.Parameter, object], None]:
    def refuse(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
        if value:
            raise click.UsageError(f"{parameter.opts[0]}: {why}")

    return refuse


def _only_checked(name: str, callback: Callable[..., None], **more: Any) -> Callable[[F], F]:
    """An option that is looked at and leaves nothing."""
    return click.option(name, expose_value=False, callback=callback, **more)


_OPTIONS = (
    click.option(
        "--add-host",
        multiple=True,
        callback=_hosts,
        metavar="NAME:ADDRESS",
        help="A line more in /etc/hosts of RUN steps. Can be repeated.",
    ),
    click.option(
        "--shm-size", callback=_shm_size, metavar="SIZE", help="How large /dev/shm of RUN steps is. [default: 64m]"
    ),
    click.option(
        "--ulimit",
        multiple=True,
        callback=_ulimits,
        metavar="NAME=SOFT[:HARD]",
        help="A limit of each process in RUN steps, such as nofile=1024:2048. Can be repeated.",
    ),
    click.option(
        "-m", "--memory", callback=_memory, metavar="SIZE", help="Memory of each RUN step, with swap: 512m, 1g."
    ),
    click.option("--cpus", callback=_cpus, metavar="N", help="Processors of each RUN step, such as 1.5."),
    click.option("--pids-limit", type=click.IntRange(1), metavar="N", help="Processes and threads of each RUN step."),
    click.option("--on-fail", multiple=True, callback=on_fail_option, metavar="WHAT", help=ON_FAIL_HELP),
    _only_checked("--provenance", _no_attestation, metavar="false", help="Taken for docker's sake: none is made."),
    _only_checked("--sbom", _no_attestation, metavar="false", help="Taken for docker's sake: none is made."),
    _only_checked("--push", _refuse(_PUSH), is_flag=True, hidden=True),
    _only_checked("--cache-from", _refuse(_CACHE), multiple=True, hidden=True),
    _only_checked("--cache-to", _refuse(_CACHE), multiple=True, hidden=True),
)


def step_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command these options; it gets them as one argument, `steps`."""

    @wraps(command)
    def bundled(
        *arguments: object,
        add_host: tuple[tuple[str, str], ...],
        shm_size: int,
        ulimit: tuple[Ulimit, ...],
        memory: int | None,
        cpus: float | None,
        pids_limit: int | None,
        on_fail: OnFail,
        **others: object,
    ) -> int:
        limits = StepLimits(shm_size, ulimit, memory, cpus, pids_limit)
        return command(*arguments, steps=StepOptions(add_host, limits, on_fail), **others)

    for option in reversed(_OPTIONS):
        bundled = option(bundled)
    return bundled
