"""pybuild build."""

from __future__ import annotations

import os
import sys
from contextlib import closing

import click

from pybuild import report
from pybuild.api import run
from pybuild.build_log import Logged
from pybuild.builder.build import BuildRequest
from pybuild.builder.errors import NotCached, StepFailed
from pybuild.builder.options import BuildOptions, Entitlement, Network, Pull
from pybuild.builder.sources.contexts import context_name
from pybuild.options.arguments import annotation_option, platform_option, size_option, tls_verified
from pybuild.options.buildkit_arguments import build_name, check_controls, step_hostname
from pybuild.options.outputs import HELP, parse_outputs
from pybuild.options.secrets import SECRET_HELP, SSH_HELP, parse_agents, parse_secrets
from pybuild.options.steps import StepOptions, step_options
from pybuild.progress import KINDS, kind_for, progress_for
from pybuild.progress.words import BuildInfo
from pybuild.result_files import ResultFiles
from pybuild.store.errors import InvalidImage
from pybuild.store.exporting.publish import STDOUT
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.reference import Reference
from pybuild.store.store import Store

_EXIT_NOT_CACHED = 3


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("context")
@click.option(
    "-f",
    "--file",
    "recipe",
    metavar="FILE",
    help="The recipe; - is standard input. [default: Buildfile, Dockerfile or Containerfile in CONTEXT]",
)
@click.option(
    "--build-context",
    "contexts",
    multiple=True,
    metavar="NAME=PLACE",
    help="What FROM NAME and --from=NAME mean: a directory, a URL, a git repository, docker-image://REFERENCE or oci-layout://DIR[:TAG]."
    " Can be repeated.",
)
@click.option(
    "-t", "--tag", "tags", multiple=True, metavar="NAME", help="Name the image in the store. Can be repeated."
)
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    metavar="SPEC",
    help=f"{HELP} Can be repeated.",
)
@click.option(
    "--platform",
    multiple=True,
    callback=platform_option,
    metavar="OS/ARCH[/VARIANT]",
    help="What the image is for; RUN for another processor needs an emulator. [default: this machine's]",
)
@click.option("--target", metavar="STAGE", help="Build this stage instead of the last one.")
@click.option(
    "--build-arg",
    "build_args",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="Set an ARG; without a value it comes from the environment.",
)
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Add a label to the image.")
@click.option(
    "--annotation",
    "annotations",
    multiple=True,
    callback=annotation_option,
    metavar="KEY=VALUE",
    help="Add an annotation to the manifest. Can be repeated.",
)
@click.option(
    "--pull",
    type=click.Choice([kind.value for kind in Pull]),
    default="missing",
    show_default=True,
    help="When to ask the registry for a base image; --pull alone means always.",
)
@click.option("--tls-verify/--no-tls-verify", default=None, help="Check certificates of registries. [default: check]")
@click.option("--no-cache", is_flag=True, help="Run every step again.")
@click.option(
    "--no-cache-filter",
    "no_cache_stages",
    multiple=True,
    metavar="STAGE",
    help="Run the steps of this stage again; several with commas. Can be repeated.",
)
@click.option(
    "--require-cached",
    is_flag=True,
    help="Run and fetch nothing: where a step is not cached, tell which and why, and exit with 3.",
)
@click.option("--explain", is_flag=True, help="Tell in the end why steps were not cached, as pybuild why does.")
@click.option(
    "--jobs", type=click.IntRange(1), default=16, show_default=True, metavar="N", help="RUN steps at a time, at most."
)
@click.option(
    "--network",
    type=click.Choice([kind.value for kind in Network]),
    default="default",
    show_default=True,
    help="What RUN steps can reach.",
)
@click.option(
    "--allow",
    multiple=True,
    type=click.Choice([kind.value for kind in Entitlement]),
    help="What a RUN of the recipe may ask for: the network of this machine, or all power of a namespace. Can be repeated.",
)
@click.option("--secret", "secrets", multiple=True, metavar="SPEC", help=SECRET_HELP)
@click.option("--ssh", "agents", multiple=True, metavar="SPEC", help=SSH_HELP)
@click.option(
    "--progress",
    type=click.Choice(KINDS),
    default="auto",
    show_default=True,
    help="How to show what happens: a live view on a terminal, else lines; in GitHub Actions groups and annotations.",
)
@click.option("--iidfile", metavar="FILE", help="Write the image ID, the digest of its config, to FILE.")
@click.option(
    "--metadata-file", metavar="FILE", help="Write what came of the build to FILE, as JSON; also of a failure."
)
@click.option(
    "--exit-code",
    type=click.Choice(["1", "run"]),
    default="1",
    show_default=True,
    help="The exit status when a RUN fails: 1, or that of its command.",
)
@click.option("--check", "only_check", is_flag=True, help="List all warnings about the recipe and run nothing of it.")
@click.option("-q", "--quiet", is_flag=True, help="Show only the image's digest.")
@click.pass_context
@step_options
def build(
    ctx: click.Context,
    context: str,
    recipe: str | None,
    contexts: tuple[str, ...],
    tags: tuple[str, ...],
    outputs: tuple[str, ...],
    platform: Platform | None,
    target: str | None,
    build_args: tuple[str, ...],
    labels: tuple[str, ...],
    annotations: dict[str, str],
    pull: str,
    tls_verify: bool | None,
    no_cache: bool,
    no_cache_stages: tuple[str, ...],
    require_cached: bool,
    explain: bool,
    jobs: int,
    network: str,
    allow: tuple[str, ...],
    secrets: tuple[str, ...],
    agents: tuple[str, ...],
    progress: str,
    iidfile: str | None,
    metadata_file: str | None,
    exit_code: str,
    only_check: bool,
    quiet: bool,
    steps: StepOptions,
) -> int:
    """Build an image from the recipe and the files in CONTEXT; its digest goes to standard output.

    CONTEXT is a directory; or - for standard input, or a URL: an archive (tar; plain or with gzip, bzip2, xz or zstd), or
    else a recipe that needs no files; or a git repository: https://HOST/PATH.git#REF:SUBDIR, git@HOST:PATH#REF:SUBDIR.
    """
    if context == recipe == "-":
        raise click.UsageError("standard input cannot be both CONTEXT and the recipe (-f -)")
    if no_cache and no_cache_stages:
        raise click.UsageError("--no-cache is for all stages: leave --no-cache-filter out")
    if require_cached and pull == Pull.ALWAYS.value:
        raise click.UsageError("--require-cached fetches nothing: leave --pull out")
    args = _build_args(build_args)
    check_controls(args)
    limit = size_option("PYBUILD_KEEP_STORAGE", os.environ.get("PYBUILD_KEEP_STORAGE") or None)
    epoch = _epoch(args)
    info = BuildInfo.begin(context, recipe, target, build_name(args))
    request = BuildRequest(
        id=info.id,
        context=context,
        recipe=recipe,
        options=BuildOptions(
            target=target,
            platform=platform or Platform.host(),
            build_args=args,
            labels=dict(_pair(label, "--label") for label in labels),
            annotations=annotations,
            no_cache=no_cache,
            no_cache_stages=_stages(no_cache_stages),
            require_cached=require_cached,
            jobs=jobs,
            pull=Pull(pull),
            tls_verify=tls_verified(ctx, tls_verify),
            network=Network(network),
            allow=frozenset(Entitlement(name) for name in allow),
            secrets=parse_secrets(secrets),
            agents=parse_agents(agents),
            hostname=step_hostname(args),
            hosts=steps.hosts,
            limits=steps.limits,
            on_fail=steps.on_fail,
            epoch=epoch,
        ),
        tags=tuple(Reference.parse(tag).with_default_tag() for tag in tags),
        outputs=parse_outputs(outputs),
        contexts=_contexts(contexts),
    )
    files = ResultFiles(iidfile, metadata_file)
    try:
        kind = kind_for("quiet" if quiet else progress, os.environ, terminal=sys.stderr.isatty())
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    files.check()
    with Store(ctx.obj) as store:
        if only_check:
            from pybuild.commands.check import check_only

            return check_only(request, store, progress_for(kind, info) if kind == "json" else None)
        with closing(Logged(progress_for(kind, info), info, store.logs)) as display:
            try:
                image = run(request, store, display, limit)
            except BrokenPipeError:
                raise
            except report.KNOWN as error:
                display.failed(error)
                files.failed(info, error)
                if isinstance(error, NotCached):
                    _tell_missing(error, request)
                    return _EXIT_NOT_CACHED
                if explain:
                    _explain(store, info)
                if ctx.meta["debug"]:
                    raise
                return error.status if exit_code == "run" and isinstance(error, StepFailed) else 1
            display.finished(image.digest)
            if explain:
                _explain(store, info)
            files.finished(info, store, image.digest, request.tags)
    # An archive on standard output must not be followed by anything.
    click.echo(str(image.digest), err=any(output.destination == STDOUT for output in request.outputs))
    return 0


def _tell_missing(error: NotCached, request: BuildRequest) -> None:
    from pybuild.commands.why import one_line

    recipe = error.source.filename if error.source is not None else request.recipe or ""
    for step in error.steps:
        click.echo(one_line(recipe, step), err=True)


def _explain(store: Store, info: BuildInfo) -> None:
    from pybuild.commands.why import explain_build

    explain_build(store, info.id)


def _contexts(values: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for value in values:
        name, place = _pair(value, "--build-context")
        try:
            name = context_name(name)
        except InvalidImage as error:
            raise click.UsageError(f"--build-context {value}: {error}") from None
        if not place:
            raise click.UsageError(f"--build-context {value}: expected NAME=PLACE")
        found[name] = place
    return found


def _stages(values: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(name.strip() for value in values for name in value.split(","))
    if not all(names):
        raise click.UsageError(f"--no-cache-filter {','.join(values)}: a name of a stage is empty")
    return names


def _build_args(values: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not name:
            raise click.UsageError(f"--build-arg {value}: expected NAME=VALUE")
        if equals:
            found[name] = text
        elif name in os.environ:
            found[name] = os.environ[name]
    return found


def _pair(text: str, flag: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"{flag} {text}: expected NAME=VALUE")
    return name, value


def _epoch(args: dict[str, str]) -> int | None:
    """SOURCE_DATE_EPOCH: a build argument wins over the environment."""
    text = args.get("SOURCE_DATE_EPOCH", os.environ.get("SOURCE_DATE_EPOCH", ""))
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 11:
        raise click.UsageError(f"SOURCE_DATE_EPOCH={text}: expected seconds since 1970")
    return int(text)
