"""The values of -o/--output."""

from __future__ import annotations

import click

from builder.build import ArchiveOutput
from store.compression import Compression

_LATER_TYPES = ("docker", "tar", "local", "registry")


def parse_output(text: str) -> ArchiveOutput:
    """Read `type=oci,dest=FILE[,compression=gzip|zstd|uncompressed]`. Raises click.UsageError."""
    fields: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or key in fields:
            raise click.UsageError(f"--output {text}: expected type=oci,dest=FILE and each key once")
        fields[key] = value
    kind = fields.pop("type", "")
    if kind in _LATER_TYPES:
        raise click.UsageError(f"--output type={kind} is not supported yet")
    if kind != "oci":
        raise click.UsageError(f"--output {text}: expected type=oci")
    destination = fields.pop("dest", "")
    if not destination or destination == "-":
        raise click.UsageError(f"--output {text}: expected dest=FILE")
    name = fields.pop("compression", "gzip")
    if name not in {kind.value for kind in Compression}:
        raise click.UsageError(f"--output compression={name}: it can be gzip, zstd or uncompressed")
    if fields:
        raise click.UsageError(f"--output {text}: unknown key {next(iter(fields))}")
    return ArchiveOutput(destination, Compression(name))
