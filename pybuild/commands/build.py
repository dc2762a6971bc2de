"""pybuild build."""

from __future__ import annotations

import os
from contextlib import closing, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from pybuild import report
from pybuild.api import run
from pybuild.build_log import LoggedDisplay
from pybuild.builder.build import BuildRequest, names_of
from pybuild.builder.errors import NotCached
from pybuild.builder.options import BuildOptions, Pull
from pybuild.options.arguments import size_option
from pybuild.options.buildkit_arguments import build_name, step_hostname
from pybuild.options.cache import CACHE
from pybuild.options.caches import refuse_overwriting, with_inline_cache
from pybuild.options.completion import complete_directories
from pybuild.options.display import DISPLAY
from pybuild.options.groups import GroupedCommand
from pybuild.options.results import RESULTS, refuse_beside_reproduce
from pybuild.options.rules import RULE_OPTIONS
from pybuild.options.sources import SOURCES
from pybuild.options.steps import STEPS
from pybuild.progress import progress_for
from pybuild.progress.formatting import BuildInfo
from pybuild.result_files import ResultFiles
from pybuild.signals import outlast
from pybuild.store.exporting.publish import STDOUT
from pybuild.store.store import Access, Store

if TYPE_CHECKING:
    from pybuild.builder.gate.rules import ImageRules
    from pybuild.commands.build_pages import BuildPages
    from pybuild.options.cache import CacheOptions
    from pybuild.options.display import DisplayOptions
    from pybuild.options.results import ResultOptions
    from pybuild.options.sources import SourceOptions
    from pybuild.options.steps import StepOptions

_EXIT_NOT_CACHED = 3


@click.command(
    cls=GroupedCommand,
    groups=(SOURCES, RESULTS, RULE_OPTIONS, CACHE, STEPS, DISPLAY),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("context", shell_complete=complete_directories)
@click.pass_context
def build(
    ctx: click.Context,
    context: str,
    sources: SourceOptions,
    results: ResultOptions,
    rules: ImageRules | None,
    cache: CacheOptions,
    steps: StepOptions,
    display: DisplayOptions,
) -> int:
    """Build an image from a recipe and a context.

    The digest of the image goes to standard output, everything else to standard error.

    CONTEXT is a directory, a git repository (https://HOST/PATH.git#REF:SUBDIR or git@HOST:PATH#REF:SUBDIR), a URL, or -
    for standard input. A URL or standard input gives a tar archive, plain or compressed with gzip, bzip2, xz or zstd;
    anything else is read as a recipe that needs no files.
    """
    _refuse_conflicts(context, sources, results, cache)
    if rules is not None and display.call is not None:
        raise click.UsageError(
            "--rules, --max-size, --deny and so on are about an image: --check and --call build none"
        )
    keep_storage = size_option("PYBUILD_KEEP_STORAGE", os.environ.get("PYBUILD_KEEP_STORAGE") or None)
    info = BuildInfo.begin(context, sources.recipe, sources.target, build_name(sources.build_args))
    request = replace(_request(info.id, context, sources, results, cache, steps), rules=rules)
    files = ResultFiles(results.iidfile, results.metadata_file)
    files.prepare()
    pages = _pages(results, display)
    with Store(ctx.obj, Access.READ) as store:
        if display.call is not None:
            from pybuild.commands.check import answer

            return answer(display.call, request, store, progress_for("json", info) if display.kind == "json" else None)
        if results.reproduce:
            from pybuild.commands.reproduce import reproduce

            return reproduce(request, store, progress_for(display.kind, info), as_json=display.kind == "json")
        with (
            pages.after_build(store, info.id)
            if pages
            else nullcontext(store.logs if store.obstacle is None else None) as logs,
            closing(LoggedDisplay(progress_for(display.kind, info, display.colour), info, logs)) as observe,
        ):
            try:
                image = run(request, store, observe, keep_storage, complete=outlast)
            except BrokenPipeError:
                raise
            except report.EXPECTED as error:
                observe.failed(error)
                files.failed(info, error)
                if isinstance(error, NotCached):
                    _show_misses(error, sources.recipe)
                    return _EXIT_NOT_CACHED
                if cache.explain:
                    _explain(store, info)
                if ctx.meta["debug"]:
                    raise
                return display.status_of(error)
            observe.finished(image.digest)
            if cache.explain:
                _explain(store, info)
            files.finished(info, store, image.index or image.stored, names_of(request))
        if pages:
            pages.write_explore(ctx.obj, image, tls_verify=sources.tls_verify)
    # Nothing can follow an archive on standard output.
    click.echo(str(image.digest), err=any(output.destination == STDOUT for output in request.outputs))
    return 0


def _pages(results: ResultOptions, display: DisplayOptions) -> BuildPages | None:
    """The pages to write at the end. Raises click.UsageError, and BuildError if a page cannot be written."""
    if results.report is None and results.explore is None:
        return None
    from pybuild.commands.build_pages import BuildPages  # a local import: most builds write no page

    return BuildPages.asked_for(results.report, results.explore, display)


def _refuse_conflicts(context: str, sources: SourceOptions, results: ResultOptions, cache: CacheOptions) -> None:
    """Raise UsageError for options of two groups that exclude each other."""
    if context == sources.recipe == "-":
        raise click.UsageError("standard input cannot be both CONTEXT and the recipe (-f -)")
    if results.reproduce:
        refuse_beside_reproduce(context, sources, results, cache)
    if cache.require_cached and sources.pull is Pull.ALWAYS:
        raise click.UsageError("--require-cached fetches no image: leave out --pull")


def _request(
    id: str, context: str, sources: SourceOptions, results: ResultOptions, cache: CacheOptions, steps: StepOptions
) -> BuildRequest:
    cache_to = with_inline_cache(cache.cache_to, sources.build_args)
    refuse_overwriting(cache_to, results.outputs, results.tags)
    return BuildRequest(
        id=id,
        context=context,
        recipe=sources.recipe,
        contexts=sources.contexts,
        tags=results.tags,
        outputs=results.outputs,
        options=BuildOptions(
            target=sources.target,
            platform=sources.platforms[0],
            platforms=sources.platforms if len(sources.platforms) > 1 else (),
            build_args=sources.build_args,
            pull=sources.pull,
            tls_verify=sources.tls_verify,
            epoch=sources.epoch,
            timestamp=sources.timestamp,
            labels=results.labels,
            leveled_annotations=results.annotations,
            no_cache=cache.no_cache,
            no_cache_stages=cache.no_cache_stages,
            require_cached=cache.require_cached,
            require_space=cache.require_space,
            cache_from=cache.cache_from,
            cache_to=cache_to,
            jobs=steps.jobs,
            network=steps.network,
            allow=steps.allow,
            secrets=steps.secrets,
            agents=steps.agents,
            isolation=steps.isolation,
            emulators=steps.emulators,
            snapshots=steps.snapshots,
            hostname=step_hostname(sources.build_args),
            hosts=steps.hosts,
            limits=steps.limits,
            on_fail=steps.on_fail,
        ),
    )


def _show_misses(error: NotCached, recipe: str | None) -> None:
    from pybuild.commands.why import one_line

    name = error.source.filename if error.source is not None else recipe or ""
    for step in error.steps:
        click.echo(one_line(name, step), err=True)


def _explain(store: Store, info: BuildInfo) -> None:
    from pybuild.commands.why import explain_build

    explain_build(store, info.id)
