"""The options of `pybuild build` about the cache and the store."""

from __future__ import annotations

import click

from pybuild.builder.cache_places import CacheExport, CacheImport
from pybuild.options.arguments import size_option
from pybuild.options.caches import CACHE_FROM, CACHE_TO, parse_cache_exports, parse_cache_imports
from pybuild.options.groups import OptionGroup
from pybuild.values import frozen


@frozen
class CacheOptions:
    """Which steps the cache can serve, and what to say about those it does not serve."""

    no_cache: bool
    no_cache_stages: tuple[str, ...]
    require_cached: bool
    explain: bool
    require_space: int  # bytes
    cache_from: tuple[CacheImport, ...]
    cache_to: tuple[CacheExport, ...]


def _cache_options(
    *,
    no_cache: bool,
    no_cache_filter: tuple[str, ...],
    require_cached: bool,
    explain: bool,
    require_space: str | None,
    cache_from: tuple[str, ...],
    cache_to: tuple[str, ...],
) -> CacheOptions:
    if no_cache and no_cache_filter:
        raise click.UsageError("--no-cache covers all stages: leave out --no-cache-filter")
    stages = tuple(name.strip() for value in no_cache_filter for name in value.split(","))
    if not all(stages):
        raise click.UsageError(f"--no-cache-filter {','.join(no_cache_filter)}: a stage name is empty")
    space = size_option("--require-space", require_space) or 0
    imports, exports = parse_cache_imports(cache_from), parse_cache_exports(cache_to)
    return CacheOptions(no_cache, stages, require_cached, explain, space, imports, exports)


CACHE = OptionGroup(
    "cache",
    "Cache",
    _cache_options,
    (
        click.Option(["--no-cache"], is_flag=True, help="Run every step again."),
        click.Option(
            ["--no-cache-filter"],
            multiple=True,
            metavar="STAGE",
            help="Run the steps of this stage again; commas separate several stages. Can be repeated.",
        ),
        click.Option(
            ["--require-cached"],
            is_flag=True,
            help="Run no step, and without --cache-from fetch no image: if a step is not cached, say which and why, and exit with 3.",
        ),
        click.Option(
            ["--explain"], is_flag=True, help="At the end, say why steps were not cached, as pybuild why does."
        ),
        click.Option(
            ["--require-space"],
            metavar="SIZE",
            help="Fail at once unless SIZE (10g, 500m) is free on the disk of the store.",
        ),
        CACHE_FROM,
        CACHE_TO,
    ),
)
