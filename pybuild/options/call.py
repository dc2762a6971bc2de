"""--call, --check and --format: what to print about a recipe in place of building it."""

from __future__ import annotations

from enum import Enum

import click

from pybuild.values import frozen

FORMATS = ("text", "json", "sarif", "github")


class Method(Enum):
    """What to print."""

    CHECK = "check"
    OUTLINE = "outline"
    TARGETS = "targets"


@frozen
class Call:
    """A method, and the format of its result. `ignore_status`: findings do not change the exit status."""

    method: Method
    format: str = "text"
    ignore_status: bool = False


def read_call(text: str | None, format: str | None, *, check: bool) -> Call | None:
    """The values of --call, --format and --check; None: the recipe is built. Raises click.UsageError.

    The value of --call is docker's: METHOD[,format=FORMAT][,ignorestatus=true].
    """
    name, *options = (text or "").split(",")
    if check and name not in ("", "check", "lint"):
        raise click.UsageError(f"--check is --call=check; leave out one of --check and --call={name}")
    values = dict(option.partition("=")[::2] for option in options)
    if unknown := values.keys() - {"format", "ignorestatus"}:
        raise click.UsageError(f"--call={text}: unknown option {min(unknown)!r}; expected format or ignorestatus")
    if format is not None and values.get("format", format) != format:
        raise click.UsageError(f"--call={text} and --format={format} contradict each other")
    if name in ("", "build") and not check:
        _refuse_image_format(format)
        return None
    method = _method(name or "check")
    format = format or values.get("format", "text")
    known = FORMATS if method is Method.CHECK else FORMATS[:2]
    if format not in known:
        raise click.UsageError(f"--format={format}: {method.value} has the formats {', '.join(known)}")
    return Call(method, format, values.get("ignorestatus", "false") in ("1", "t", "T", "true", "TRUE", "True"))


def _method(name: str) -> Method:
    names = {**{method.value: method for method in Method}, "lint": Method.CHECK}
    if name not in names:
        raise click.UsageError(f"--call={name}: expected build, {', '.join(method.value for method in Method)}")
    return names[name]


def _refuse_image_format(format: str | None) -> None:
    """Without --check, --format is that of buildah and podman: the format of the image's manifest."""
    if format in (None, "oci"):
        return
    if format in FORMATS:
        raise click.UsageError(f"--format={format} is a format of --check or --call: add one of them")
    raise click.UsageError(f"--format={format}: images of the store are in the format oci")
