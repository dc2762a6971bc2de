"""Option values that several commands read, and docker's spellings that click cannot express."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Callable

_CLICK_SPELLINGS = {
    "--pull": "--pull=always",
    "--pull=true": "--pull=always",
    "--pull=false": "--pull=missing",
    "--tls-verify=true": "--tls-verify",
    "--tls-verify=false": "--no-tls-verify",
    "--src-tls-verify=true": "--src-tls-verify",
    "--src-tls-verify=false": "--no-src-tls-verify",
    "--dest-tls-verify=true": "--dest-tls-verify",
    "--dest-tls-verify=false": "--no-dest-tls-verify",
    "--rm=false": "--no-rm",
    "--layers=false": "--no-layers",
    "--disable-content-trust=false": "--no-disable-content-trust",
    "--inherit-labels=false": "--no-inherit-labels",
    "--skip-unused-stages=false": "--no-skip-unused-stages",
}
# Switches that docker and buildah take with a value. One that is switched off is left out, because that is what pybuild does.
_SWITCHES = frozenset((
    "all-platforms", "check", "compat-volumes", "compress", "created-annotation", "detach", "disable-compression",
    "disable-content-trust", "force-rm", "http-proxy", "identity-label", "inherit-annotations", "inherit-labels", "layers",
    "load", "logsplit", "no-cache", "no-hostname", "no-hosts", "omit-history", "push", "quiet", "rewrite-timestamp", "rm",
    "save-stages", "skip-unused-stages", "squash", "squash-all", "stage-labels", "stdin",
))  # fmt: skip
_BOOLEANS = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


def normalise(arguments: list[str]) -> list[str]:
    """The same command line in click's spellings; everything after `--` stays as it is."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return [spelling for word in arguments[:end] for spelling in _spellings(word)] + arguments[end:]


def _spellings(word: str) -> list[str]:
    """A word in click's spelling; nothing for a switch that is switched off."""
    if word in _CLICK_SPELLINGS:
        return [_CLICK_SPELLINGS[word]]
    name, _, value = word.removeprefix("--").partition("=")
    on = _BOOLEANS.get(value.lower()) if word.startswith("--") and name in _SWITCHES else None
    return [word] if on is None else [f"--{name}"] if on else []


def image_platform_option(default: str = "this machine's of an index, else the newest") -> click.Option:
    """--platform of a command that reads one image of the store; the command gets a Platform or None."""
    return click.Option(
        ["--platform"],
        multiple=True,
        callback=_platform,
        metavar="OS/ARCH[/VARIANT]",
        help=f"Which image, if NAME has images for several platforms. [default: {default}]",
    )


def platform_option(help: str, default: str = "this machine's") -> click.Option:
    """--platform of one command; the command gets a Platform, or None if the option is not given."""
    return click.Option(
        ["--platform"],
        multiple=True,
        callback=_platform,
        metavar="OS/ARCH[/VARIANT]",
        help=f"{help} [default: {default}]",
    )


def all_platforms_option(help: str) -> click.Option:
    """--all-platforms of a command; it excludes --platform."""

    def check(ctx: click.Context, parameter: click.Parameter, value: bool) -> bool:
        if value and ctx.params.get("platform") is not None:
            raise click.UsageError("--platform and --all-platforms exclude each other")
        return value

    return click.Option(["--all-platforms"], is_flag=True, callback=check, help=help)


def platforms_option(help: str, default: str = "this machine's") -> click.Option:
    """--platform of a command that makes an image for several; the command gets a tuple of different ones, or ()."""
    return click.Option(
        ["--platform", "platforms"],
        multiple=True,
        callback=lambda ctx, _, values: _platforms(values),
        metavar="OS/ARCH[/VARIANT],...",
        help=f"{help} [default: {default}]",
    )


def tls_verify_option() -> click.Option:
    """--tls-verify of one command, which wins over the one before the verb; the command gets a bool."""
    return click.Option(
        ["--tls-verify/--no-tls-verify"],
        default=None,
        callback=lambda ctx, _, value: ctx.meta.get("tls_verify", True) if value is None else value,
        help="Check the certificates of registries and refuse plain HTTP. [default: check]",
    )


def one_side_tls_verify_option(side: str, argument: str) -> click.Option:
    """--src-tls-verify or --dest-tls-verify of a copy; the command gets a bool, or None if it is not given."""
    return click.Option(
        [f"--{side}-tls-verify/--no-{side}-tls-verify"],
        default=None,
        help=f"The same for the registry of {argument} only.",
    )


def checked_option(name: str, callback: Callable[..., None], **attributes: Any) -> click.Option:
    """An option that `callback` accepts or refuses; the command gets no value."""
    return click.Option([name], expose_value=False, callback=callback, **attributes)


def refused_option(name: str, reason: str, **attributes: Any) -> click.Option:
    """An option of docker's that pybuild does not have: a usage error tells the reason."""

    def refuse(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
        if value:
            raise click.UsageError(f"{name}: {reason}")

    return checked_option(name, refuse, hidden=True, **attributes)


def accepted_option(name: str) -> click.Option:
    """A switch of docker's or buildah's that asks for what pybuild does anyway."""
    return checked_option(name, lambda *_: None, is_flag=True, hidden=True)


def name_and_value(text: str, flag: str, *, value_needed: bool = True) -> tuple[str, str]:
    """The parts of NAME=VALUE; a value that is not needed can be left out with its "=". Raises click.UsageError."""
    name, equals, value = text.partition("=")
    if not name or (value_needed and not equals):
        raise click.UsageError(f"{flag} {text}: expected NAME=VALUE")
    return name, value


def csv_fields(flag: str, text: str) -> list[str]:
    """The comma-separated fields of a value, quoted as in CSV. Raises click.UsageError."""
    import csv  # a local import: most builds have no such option

    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise click.UsageError(f"{flag} {text}: {error}") from None


def size_option(name: str, text: str | None) -> int | None:
    """A size as docker writes it (10g, 500m), in bytes. Raises click.UsageError."""
    if text is None:
        return None
    from pybuild.parser import SizeError, parse_size  # a local import: most verbs need no parser

    try:
        return parse_size(text)
    except SizeError as error:
        raise click.UsageError(f"{name}: {error}; {error.hint}" if error.hint else f"{name}: {error}") from None


def _platform(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> Platform | None:
    """One platform; `local` is this machine's. Raises click.UsageError."""
    found = _platforms(values)
    if len(found) > 1:
        shown = ",".join(map(str, found))
        raise click.UsageError(
            f"--platform {shown}: one platform at a time; --all-platforms, where it exists, means all"
        )
    return found[0] if found else None


def _platforms(values: tuple[str, ...]) -> tuple[Platform, ...]:
    """All platforms, each once; `local` is this machine's. Raises click.UsageError."""
    found = []
    for text in (text.strip() for value in values for text in value.split(",") if text.strip()):
        try:
            found.append(Platform.host() if text == "local" else Platform.parse(text))
        except InvalidImage as error:
            raise click.UsageError(f"--platform {text}: {error}; {error.hint}") from None
    return tuple(dict.fromkeys(found))
