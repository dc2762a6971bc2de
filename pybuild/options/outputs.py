"""The values of -o/--output, read as docker's buildx reads them."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from pybuild.builder.output.export import Format, ImageOutput, LocalOutput, Output, RegistryOutput, TarOutput
from pybuild.options.annotations import parse_output_annotation
from pybuild.options.arguments import csv_fields
from pybuild.options.key_values import KeyValues, usage_error
from pybuild.store.exporting.publish import STDOUT
from pybuild.store.formats.compression import Compression

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pybuild.store.formats.reference import Reference

_LAYERS = ("name", "compression", "force-compression")
_KEYS = {  # type -> its keys, besides `type` and `dest`
    "oci": ("tar", *_LAYERS),
    "docker": _LAYERS,
    "tar": (),
    "local": (),
    "registry": (*_LAYERS, "oci-mediatypes", "push"),
    "image": (*_LAYERS, "oci-mediatypes", "push"),
}
_UNLISTED = {kind: ("rewrite-timestamp",) if "name" in keys else () for kind, keys in _KEYS.items()}
_IN_REGISTRY = ("registry", "image")
_OPTION = "--output"

_HELP = (
    "Write the image: type=oci, docker, tar or local with dest=PATH, or type=registry, which pushes it to its names. PATH"
    " alone means type=local; - means type=tar on standard output. oci, docker and registry take name=,"
    " compression=gzip|zstd|uncompressed and force-compression=true; oci takes tar=false to write a directory; registry"
    " takes oci-mediatypes=false; all three annotation.KEY=VALUE and annotation-LEVEL.KEY=VALUE, as --annotation. docker contains zstd layers only with compression=zstd. Can be repeated."
)


def output_option(*, required: bool = False) -> click.Option:
    """-o/--output of one command; the command gets the texts as `output`."""
    return click.Option(["-o", "--output"], multiple=True, required=required, metavar="SPEC", help=_HELP)


def parse_outputs(texts: Iterable[str], *, push: bool = False, built: bool = True) -> tuple[Output, ...]:
    """Read all values of one command, which has `built` the image or takes one of the store.

    With `push` one of them goes to registries. Raises click.UsageError.
    """
    outputs = tuple(parse_output(text, push=push, built=built) for text in texts)
    if push and not any(isinstance(output, RegistryOutput) for output in outputs):
        outputs += (RegistryOutput(),)
    to_stdout = [output for output in outputs if output.destination == STDOUT]
    if len(to_stdout) > 1:
        raise click.UsageError("--output: only one output can go to standard output")
    if to_stdout and sys.stdout.isatty():
        raise click.UsageError("--output: refusing to write an archive to a terminal; redirect it, or give dest=FILE")
    return outputs


def parse_output(text: str, *, push: bool = False, built: bool = True) -> Output:
    """Read one value: comma-separated KEY=VALUE, quoted as in CSV; or a path. Raises click.UsageError.

    `push`: an output of type=image goes to registries.
    """
    fields = csv_fields(_OPTION, text)
    if not any(fields):
        raise click.UsageError("--output: empty value")
    if len(fields) == 1 and not fields[0].startswith("type="):
        return _path_only(text, fields[0])
    ours = [field for field in fields if field.strip().startswith("annotation")]
    given = KeyValues.read(_OPTION, text, [field for field in fields if field not in ours])
    kind = given.type_of(_KEYS)
    annotations = tuple(
        parse_output_annotation(f"{_OPTION} {text}", key.strip(), value)
        for key, _, value in (f.partition("=") for f in ours)
    )
    if annotations and kind in ("tar", "local"):
        raise given.error(f"type={kind} writes files, and no manifest that annotations could be in")
    given.refuse_other_keys(_KEYS[kind] if kind in _IN_REGISTRY else ("dest", *_KEYS[kind]), _UNLISTED[kind])
    _check_rewriting(given, built=built)
    if kind in _IN_REGISTRY:
        return replace(_registry(given, push=push or kind == "registry"), annotations=annotations)
    match kind:
        case "local":
            return LocalOutput(_directory(given))
        case "tar":
            return TarOutput(_file(given, STDOUT))
        case _:
            return replace(_image(given, Format(kind)), annotations=annotations)


def _check_rewriting(given: KeyValues, *, built: bool) -> None:
    """rewrite-timestamp=true bounds the times of the files of new layers by SOURCE_DATE_EPOCH: what pybuild always does."""
    if "rewrite-timestamp" not in given.values:
        return
    if not built:
        raise given.error("the layers of an image of the store stay as they are: build it with SOURCE_DATE_EPOCH")
    if not given.truth("rewrite-timestamp", True):
        raise given.error("with SOURCE_DATE_EPOCH no new file is younger than that: leave out rewrite-timestamp=false")


def _path_only(text: str, path: str) -> Output:
    key = path.partition("=")[0]
    if "=" in path and key in ("dest", *_KEYS["oci"]):
        raise usage_error(_OPTION, text, f"type= is missing; it can be {', '.join(_KEYS)}")
    return TarOutput(STDOUT) if path == STDOUT else LocalOutput(path)


def _registry(given: KeyValues, *, push: bool) -> RegistryOutput:
    if not given.truth("push", push):
        raise given.error("expected push=true: the store has the image in any case, under its --tag")
    compression, force = _compression(given)
    docker_types = not given.truth("oci-mediatypes", True)
    if docker_types and compression is Compression.ZSTD:
        raise given.error("compression=zstd needs OCI's media types: leave out oci-mediatypes=false")
    return RegistryOutput(_names(given), compression, force, docker_types)


def _compression(given: KeyValues) -> tuple[Compression | None, bool]:
    """The compression of the layers, and whether it is forced on those of the base."""
    compression = given.compression()
    force = given.truth("force-compression", False)
    return Compression.GZIP if force and compression is None else compression, force


def _image(given: KeyValues, format_: Format) -> ImageOutput:
    directory = not given.truth("tar", True)
    compression, force = _compression(given)
    destination = _directory(given) if directory else _file(given, "")
    return ImageOutput(format_, destination, directory, compression, force, _names(given))


def _names(given: KeyValues) -> tuple[Reference, ...] | None:
    if "name" not in given.values:
        return None
    names = tuple(map(given.reference, given.values["name"].split(",")))
    if any(name.digest is not None for name in names):
        raise given.error("name=: a digest cannot be chosen")
    return names


def _file(given: KeyValues, default: str) -> str:
    destination = given.values.get("dest", default)
    if not destination:
        raise given.error("expected dest=FILE, or dest=- for standard output")
    return STDOUT if destination == "/dev/stdout" else destination


def _directory(given: KeyValues) -> str:
    destination = given.values.get("dest", "")
    if destination in ("", STDOUT):
        raise given.error("expected dest=DIRECTORY")
    return destination
