"""Spellings of docker's and podman's options that click has no form for, rewritten before it reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

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


def tls_verified(ctx: click.Context, chosen: bool | None) -> bool:
    """Whether certificates are checked: as said for the verb, else as said before it."""
    return chosen if chosen is not None else bool(ctx.meta.get("tls_verify", True))
