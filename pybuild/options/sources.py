"""The options of `pybuild build` that choose what is built: recipe, contexts, stage, platform, values of ARGs."""

from __future__ import annotations

import os
from collections.abc import Mapping

import click

from pybuild.builder.options import SOURCE_DATE_EPOCH, Pull, parse_epoch
from pybuild.builder.sources.contexts import context_name
from pybuild.options.arguments import name_and_value, platforms_option, tls_verify_option
from pybuild.options.buildkit_arguments import check_controls
from pybuild.options.completion import complete_files, complete_stages
from pybuild.options.groups import OptionGroup
from pybuild.store.errors import InvalidImage
from pybuild.store.formats.platform import Platform
from pybuild.values import frozen


@frozen
class SourceOptions:
    """What to build, besides CONTEXT itself."""

    recipe: str | None  # a path, or - for standard input; None: a recipe with a default name in the context
    contexts: Mapping[str, str]  # name -> place, as builder/sources/contexts.py reads it
    target: str | None
    platforms: tuple[Platform, ...]  # at least one
    build_args: Mapping[str, str]
    pull: Pull
    tls_verify: bool
    epoch: int | None  # SOURCE_DATE_EPOCH, in seconds
    timestamp: int | None  # --timestamp, in seconds


def _source_options(
    *,
    recipe: str | None,
    build_context: tuple[str, ...],
    target: str | None,
    platforms: tuple[Platform, ...],
    build_arg: tuple[str, ...],
    pull: str,
    tls_verify: bool,
    source_date_epoch: str | None,
    timestamp: str | None,
) -> SourceOptions:
    args = _build_args(build_arg, source_date_epoch)
    check_controls(args)
    return SourceOptions(
        recipe=recipe,
        contexts=_contexts(build_context),
        target=target,
        platforms=platforms or (Platform.host(),),
        build_args=args,
        pull=Pull(pull),
        tls_verify=tls_verify,
        epoch=_epoch(args),
        timestamp=_timestamp(timestamp, source_date_epoch),
    )


def _contexts(values: tuple[str, ...]) -> dict[str, str]:
    contexts: dict[str, str] = {}
    for value in values:
        name, place = name_and_value(value, "--build-context")
        try:
            name = context_name(name)
        except InvalidImage as error:
            raise click.UsageError(f"--build-context {value}: {error}") from None
        if not place:
            raise click.UsageError(f"--build-context {value}: expected NAME=PLACE")
        contexts[name] = place
    return contexts


def _build_args(values: tuple[str, ...], epoch: str | None) -> dict[str, str]:
    """NAME=VALUE, or NAME for a variable of the environment; a variable that is not set leaves the ARG as it is.

    `epoch` is --source-date-epoch, which is the build argument too.

    Raises click.UsageError.
    """
    args = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not name:
            raise click.UsageError(f"--build-arg {value}: expected NAME=VALUE")
        if equals:
            args[name] = text
        elif name in os.environ:
            args[name] = os.environ[name]
    if epoch is not None:
        if not epoch or args.setdefault(SOURCE_DATE_EPOCH, epoch) != epoch:
            given = f"--build-arg has {args[SOURCE_DATE_EPOCH]}" if epoch else "expected seconds since 1970"
            raise click.UsageError(f"--source-date-epoch {epoch}: {given}")
    elif SOURCE_DATE_EPOCH in os.environ:  # as with docker, the variable is a build argument, too
        args.setdefault(SOURCE_DATE_EPOCH, os.environ[SOURCE_DATE_EPOCH])
    return args


def _epoch(args: Mapping[str, str]) -> int | None:
    """The build argument SOURCE_DATE_EPOCH. Raises click.UsageError."""
    try:
        return parse_epoch(args.get(SOURCE_DATE_EPOCH, ""))
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _timestamp(given: str | None, epoch: str | None) -> int | None:
    if given is None:
        return None
    if epoch is not None:
        raise click.UsageError("--timestamp sets all times, and --source-date-epoch bounds them: give one of them")
    try:
        seconds = parse_epoch(given)
    except ValueError:
        seconds = None
    if seconds is None:
        raise click.UsageError(f"--timestamp {given}: expected seconds since 1970")
    return seconds


SOURCES = OptionGroup(
    "sources",
    "Recipe and sources",
    _source_options,
    (
        click.Option(
            ["-f", "--file", "recipe"],
            shell_complete=complete_files,
            metavar="FILE",
            help="The recipe; - is standard input. [default: Buildfile, Dockerfile or Containerfile in CONTEXT]",
        ),
        click.Option(
            ["--build-context"],
            multiple=True,
            metavar="NAME=PLACE",
            help="Use PLACE for FROM NAME and --from=NAME: a directory, a URL, a git repository, docker-image://REFERENCE"
            " or oci-layout://DIR[:TAG]. Can be repeated.",
        ),
        click.Option(
            ["--target"],
            metavar="STAGE",
            shell_complete=complete_stages,
            help="Build this stage instead of the last one.",
        ),
        platforms_option("Build for these platforms; RUN for another processor needs an emulator."),
        click.Option(
            ["--build-arg"],
            multiple=True,
            metavar="NAME[=VALUE]",
            help="Set an ARG; without =VALUE the value comes from the environment. Can be repeated.",
        ),
        click.Option(
            ["--source-date-epoch"],
            metavar="SECONDS",
            help="The times of config and history, and the newest time of a file: SOURCE_DATE_EPOCH, which is also the variable and"
            " the build argument.",
        ),
        click.Option(
            ["--timestamp"],
            metavar="SECONDS",
            help="The time of config, history and all files of new layers. RUN steps do not see it, as with buildah.",
        ),
        click.Option(
            ["--pull"],
            type=click.Choice([kind.value for kind in Pull]),
            default="missing",
            show_default=True,
            help="When to ask the registry for a base image; --pull alone means always.",
        ),
        tls_verify_option(),
    ),
)
