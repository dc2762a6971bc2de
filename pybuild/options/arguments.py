"""Spellings of docker's and podman's options that click has no form for, rewritten before it reads them."""

from __future__ import annotations

import click

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.platform import Platform

_SAME = {
    "--pull": "--pull=always",
    "--pull=true": "--pull=always",
    "--pull=false": "--pull=missing",
    "--tls-verify=true": "--tls-verify",
    "--tls-verify=false": "--no-tls-verify",
}


def normalise(arguments: list[str]) -> list[str]:
    """The same command line in click's spellings; what follows `--` is left alone."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return [_SAME.get(word, word) for word in arguments[:end]] + arguments[end:]


def platform_option(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> Platform | None:
    """What --platform says: one platform, `local` being this machine's. Raises UsageError."""
    texts = [text.strip() for value in values for text in value.split(",") if text.strip()]
    if not texts:
        return None
    if len(set(texts)) > 1:
        raise click.UsageError(f"--platform {','.join(texts)}: one platform at a time; run once for each of them")
    if texts[0] == "local":
        return Platform.host()
    try:
        platform = Platform.parse(texts[0])
    except InvalidImage as error:
        raise click.UsageError(f"--platform {texts[0]}: {error}; {error.hint}") from None
    if platform.os != "linux":
        raise click.UsageError(f"--platform {texts[0]}: only images for linux are handled")
    return platform


def annotation_option(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """What --annotation says: KEY=VALUE for the manifest, which `manifest:` before the key names too."""
    found = {}
    for value in values:
        key, equals, text = value.partition("=")
        level, colon, rest = key.partition(":")
        if colon and level != "manifest":
            raise click.UsageError(f"--annotation {value}: only the manifest is annotated, not {level}")
        key = rest if colon else key
        if not key or not equals:
            raise click.UsageError(f"--annotation {value}: expected KEY=VALUE")
        found[key] = text
    return found


def tls_verified(ctx: click.Context, chosen: bool | None) -> bool:
    """Whether certificates are checked: as said for the verb, else as said before it."""
    return chosen if chosen is not None else bool(ctx.meta.get("tls_verify", True))


def size_option(name: str, text: str | None) -> int | None:
    """A size as docker writes it, in bytes."""
    if text is None:
        return None
    from pybuild.parser import SizeError, parse_size  # which verbs without sizes and recipes do not wait for

    try:
        return parse_size(text)
    except SizeError as error:
        raise click.UsageError(f"{name}: {error}; {error.hint}" if error.hint else f"{name}: {error}") from None
