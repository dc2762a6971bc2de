"""The options of `pybuild build` about the image that it makes and where that goes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import click

from pybuild.builder.annotations import Annotation
from pybuild.builder.output.export import ImageOutput, Output, TarOutput
from pybuild.options.annotations import ANNOTATION_HELP, parse_annotation
from pybuild.options.arguments import accepted_option, checked_option, name_and_value, refused_option
from pybuild.options.completion import complete_files
from pybuild.options.groups import OptionGroup
from pybuild.options.outputs import output_option, parse_outputs
from pybuild.options.ported import ported_options
from pybuild.store.exporting.publish import STDOUT
from pybuild.store.formats.reference import Reference
from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.options.cache import CacheOptions
    from pybuild.options.sources import SourceOptions

_NO_SQUASH = "every step that changes files makes a layer; -o type=tar writes all files as one"


@frozen
class ResultOptions:
    """Names, outputs and metadata of the image; paths of the files for scripts."""

    tags: tuple[Reference, ...]
    outputs: tuple[Output, ...]
    labels: Mapping[str, str]
    annotations: tuple[Annotation, ...]
    iidfile: str | None
    metadata_file: str | None
    report: str | None  # pages for a browser
    explore: str | None
    reproduce: bool  # build twice and compare


def _result_options(
    *,
    tag: tuple[str, ...],
    output: tuple[str, ...],
    push: bool,
    label: tuple[str, ...],
    annotation: tuple[str, ...],
    iidfile: str | None,
    metadata_file: str | None,
    report: str | None,
    explore: str | None,
    reproduce: bool,
) -> ResultOptions:
    outputs = parse_outputs(output, push=push)
    files: list[tuple[str, str | None]] = [("--output", one.destination) for one in outputs if _is_file(one)]
    files += [("--iidfile", iidfile), ("--metadata-file", metadata_file), ("--report", report), ("--explore", explore)]
    _refuse_same_file(files)
    return ResultOptions(
        tags=tuple(Reference.parse(name).with_default_tag() for name in tag),
        outputs=outputs,
        labels=dict(name_and_value(text, "--label", value_needed=False) for text in label),
        annotations=tuple(chain.from_iterable(map(parse_annotation, annotation))),
        iidfile=iidfile,
        metadata_file=metadata_file,
        report=report,
        explore=explore,
        reproduce=reproduce,
    )


def _is_file(output: Output) -> bool:
    """Whether an output is one file with a path."""
    is_archive = isinstance(output, ImageOutput) and not output.directory
    return (is_archive or isinstance(output, TarOutput)) and output.destination != STDOUT


def _refuse_same_file(files: Sequence[tuple[str, str | None]]) -> None:
    """Raise UsageError if two options name one file: the later one would replace it. Devices and pipes take both."""
    seen: dict[str, str] = {}
    for option, path in files:
        if path is None or (os.path.exists(path) and not os.path.isfile(path)):
            continue
        real = os.path.realpath(path)
        if real in seen:
            raise click.UsageError(f"{seen[real]} and {option} name the same file: {path}")
        seen[real] = option


def refuse_beside_reproduce(context: str, sources: SourceOptions, results: ResultOptions, cache: CacheOptions) -> None:
    """Raise UsageError for options that ask for something of an image that --reproduce does not keep."""
    kept = {
        "--tag": results.tags, "--output": results.outputs, "--iidfile": results.iidfile,
        "--metadata-file": results.metadata_file, "--report": results.report, "--explore": results.explore,
        "--cache-from": cache.cache_from, "--cache-to": cache.cache_to, "--require-cached": cache.require_cached,
        "--explain": cache.explain,
    }  # fmt: skip
    for name, value in kept.items():
        if value:
            raise click.UsageError(f"--reproduce keeps no image and uses no cache: leave out {name}")
    if "-" in (context, sources.recipe):
        raise click.UsageError("--reproduce reads context and recipe twice, and standard input can be read once")


def _no_attestation(ctx: click.Context, parameter: click.Parameter, text: str | None) -> None:
    if text is not None and text.lower() not in ("false", "0", "disabled"):
        raise click.UsageError(
            f"--{parameter.name}={text}: pybuild makes no attestations; only --{parameter.name}=false is accepted"
        )


def _attestation_option(name: str) -> click.Option:
    return checked_option(
        name, _no_attestation, metavar="false", help="Accepted because docker has it; pybuild makes no attestations."
    )


RESULTS = OptionGroup(
    "results",
    "Image and outputs",
    _result_options,
    (
        click.Option(
            ["-t", "--tag"], multiple=True, metavar="NAME", help="Name the image in the store. Can be repeated."
        ),
        output_option(),
        click.Option(
            ["--label"], multiple=True, metavar="NAME[=VALUE]", help="Add a label to the image. Can be repeated."
        ),
        click.Option(
            ["--annotation"],
            multiple=True,
            metavar="[LEVEL:]KEY=VALUE",
            help=ANNOTATION_HELP,
        ),
        click.Option(
            ["--reproduce"],
            is_flag=True,
            help="Build twice, in two empty stores, and show what differs, with the usual cures; exit with 1 if anything does. The"
            " image is not kept.",
        ),
        click.Option(
            ["--iidfile"],
            shell_complete=complete_files,
            metavar="FILE",
            help="Write the image ID, the digest of its config, to FILE; of several platforms that of the index.",
        ),
        click.Option(
            ["--metadata-file"],
            shell_complete=complete_files,
            metavar="FILE",
            help="Write the digests of the image, or the error, to FILE as JSON.",
        ),
        click.Option(
            ["--report"],
            metavar="FILE",
            help="Write a page about the build for a browser to FILE, also if the build fails; see pybuild report.",
        ),
        click.Option(
            ["--explore"],
            metavar="FILE",
            help="Write a page about the image for a browser to FILE; see pybuild explore.",
        ),
        click.Option(
            ["--push"], is_flag=True, help="Push the image to the registries of its names: short for -o type=registry."
        ),
        refused_option("--squash", _NO_SQUASH, is_flag=True),
        refused_option("--no-layers", _NO_SQUASH, is_flag=True),
        refused_option(
            "--no-rm",
            "a step has no container that could be kept; --on-fail opens a shell in one that failed",
            is_flag=True,
        ),
        *map(accepted_option, ("--load", "--layers", "--rm", "--force-rm", "--compress")),
        _attestation_option("--provenance"),
        _attestation_option("--sbom"),
        *ported_options(),
    ),
)
