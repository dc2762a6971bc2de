"""The values of -o/--output, read as docker's buildx reads them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from pybuild.builder.output.export import Format, ImageOutput, LocalOutput, Output, RegistryOutput, TarOutput
from pybuild.options.arguments import csv_fields
from pybuild.store.errors import InvalidImage
from pybuild.store.exporting.publish import STDOUT
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterable

_LAYERS = ("name", "compression", "force-compression")
_KEYS = {  # type -> its keys, besides `type` and `dest`
    "oci": ("tar", *_LAYERS),
    "docker": _LAYERS,
    "tar": (),
    "local": (),
    "registry": (*_LAYERS, "oci-mediatypes", "push"),
    "image": (*_LAYERS, "oci-mediatypes", "push"),
}
_IN_REGISTRY = ("registry", "image")
_COMPRESSIONS = {kind.value: kind for kind in Compression}

_HELP = (
    "Write the image: type=oci, docker, tar or local with dest=PATH, or type=registry, which pushes it to its names. PATH"
    " alone means type=local; - means type=tar on standard output. oci, docker and registry take name=,"
    " compression=gzip|zstd|uncompressed and force-compression=true; oci takes tar=false to write a directory; registry"
    " takes oci-mediatypes=false. docker contains zstd layers only with compression=zstd. Can be repeated."
)


def output_option(*, required: bool = False) -> click.Option:
    """-o/--output of one command; the command gets the texts as `output`."""
    return click.Option(["-o", "--output"], multiple=True, required=required, metavar="SPEC", help=_HELP)


def parse_outputs(texts: Iterable[str], *, push: bool = False) -> tuple[Output, ...]:
    """Read all values of one command. With `push` one of them goes to registries. Raises click.UsageError."""
    outputs = tuple(parse_output(text, push=push) for text in texts)
    if push and not any(isinstance(output, RegistryOutput) for output in outputs):
        outputs += (RegistryOutput(),)
    to_stdout = [output for output in outputs if output.destination == STDOUT]
    if len(to_stdout) > 1:
        raise click.UsageError("--output: only one output can go to standard output")
    if to_stdout and sys.stdout.isatty():
        raise click.UsageError("--output: refusing to write an archive to a terminal; redirect it, or give dest=FILE")
    return outputs


def parse_output(text: str, *, push: bool = False) -> Output:
    """Read one value: comma-separated KEY=VALUE, quoted as in CSV; or a path. Raises click.UsageError.

    `push`: an output of type=image goes to registries.
    """
    fields = csv_fields("--output", text)
    if not any(fields):
        raise click.UsageError("--output: empty value")
    if len(fields) == 1 and not fields[0].startswith("type="):
        return _path_only(text, fields[0])
    options = _options(text, fields)
    kind = options.pop("type", "")
    if kind not in _KEYS:
        raise _usage_error(
            text, f"{f'unknown type {kind!r}' if kind else 'type= is missing'}; it can be {', '.join(_KEYS)}"
        )
    own = _KEYS[kind] if kind in _IN_REGISTRY else ("dest", *_KEYS[kind])
    for key in options:
        if key not in own:
            allowed = ", ".join(("type", *own))
            raise _usage_error(text, f"unknown key {key!r}; type={kind} takes {allowed}")
    if kind in _IN_REGISTRY:
        return _registry(text, options, push=push or kind == "registry")
    destination = options.pop("dest", STDOUT if kind == "tar" else "")
    match kind:
        case "local":
            return LocalOutput(_directory(text, destination))
        case "tar":
            return TarOutput(_file(text, destination))
        case _:
            return _image(text, Format(kind), destination, options)


def _path_only(text: str, path: str) -> Output:
    key = path.partition("=")[0]
    if "=" in path and key in ("dest", *_KEYS["oci"]):
        raise _usage_error(text, f"type= is missing; it can be {', '.join(_KEYS)}")
    return TarOutput(STDOUT) if path == STDOUT else LocalOutput(_directory(text, path))


def _registry(text: str, options: dict[str, str], *, push: bool) -> RegistryOutput:
    if not _flag(text, options, "push", push):
        raise _usage_error(text, "expected push=true: the store has the image in any case, under its --tag")
    compression, force = _compression(text, options)
    docker_types = not _flag(text, options, "oci-mediatypes", True)
    if docker_types and compression is Compression.ZSTD:
        raise _usage_error(text, "compression=zstd needs OCI's media types: leave out oci-mediatypes=false")
    names = _names(text, options["name"]) if "name" in options else None
    return RegistryOutput(names, compression, force, docker_types)


def _compression(text: str, options: dict[str, str]) -> tuple[Compression | None, bool]:
    """The compression of the layers, and whether it is forced on those of the base."""
    name = options.get("compression")
    if name is not None and name not in _COMPRESSIONS:
        raise _usage_error(text, f"compression={name}: it can be {', '.join(_COMPRESSIONS)}")
    force = _flag(text, options, "force-compression", False)
    return _COMPRESSIONS[name] if name is not None else Compression.GZIP if force else None, force


def _image(text: str, format_: Format, destination: str, options: dict[str, str]) -> ImageOutput:
    directory = not _flag(text, options, "tar", True)
    compression, force = _compression(text, options)
    return ImageOutput(
        format_,
        _directory(text, destination) if directory else _file(text, destination),
        directory,
        compression,
        force,
        _names(text, options["name"]) if "name" in options else None,
    )


def _options(text: str, fields: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for field in fields:
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if not equals or not key:
            raise _usage_error(text, f"expected KEY=VALUE, not {field!r}")
        if key in options:
            raise _usage_error(text, f"{key}= is given twice")
        options[key] = value
    return options


def _flag(text: str, options: dict[str, str], key: str, default: bool) -> bool:
    value = options.get(key)
    if value is None:
        return default
    if value.lower() not in ("true", "1", "false", "0"):
        raise _usage_error(text, f"{key}={value}: it can be true or false")
    return value.lower() in ("true", "1")


def _names(text: str, value: str) -> tuple[Reference, ...]:
    try:
        names = tuple(Reference.parse(name.strip()).with_default_tag() for name in value.split(","))
    except InvalidImage as error:
        raise _usage_error(text, str(error)) from None
    if any(name.digest is not None for name in names):
        raise _usage_error(text, "name=: a digest cannot be chosen")
    return names


def _file(text: str, destination: str) -> str:
    if not destination:
        raise _usage_error(text, "expected dest=FILE, or dest=- for standard output")
    return STDOUT if destination == "/dev/stdout" else destination


def _directory(text: str, destination: str) -> str:
    if not destination or destination == STDOUT:
        raise _usage_error(text, "expected dest=DIRECTORY")
    return destination


def _usage_error(text: str, message: str) -> click.UsageError:
    return click.UsageError(f"--output {text}: {message}")
