"""--no-cache and --no-cache-filter: the stages that are built without the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.parser import suggest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pybuild.builder.options import BuildOptions
    from pybuild.parser import Buildfile, Stage


def fresh_stages(buildfile: Buildfile, options: BuildOptions) -> frozenset[int]:
    """The indexes of the stages that must not come from the cache."""
    if options.no_cache:
        return frozenset(stage.index for stage in buildfile.stages)
    return frozenset(stage.index for name in options.no_cache_stages for stage in _stages(buildfile.stages, name))


def unknown_stages(buildfile: Buildfile, options: BuildOptions) -> Iterator[str]:
    """One warning for each name in --no-cache-filter that no stage has.

    docker ignores such a name silently, which lets one command line serve several recipes. But after a typo the user
    would believe that the stage was built without the cache.
    """
    for name in options.no_cache_stages:
        if not any(_stages(buildfile.stages, name)):
            similar = suggest(name.lower(), [stage.name for stage in buildfile.stages if stage.name])
            advice = f"; did you mean {similar}?" if similar else ""
            yield f"--no-cache-filter {name}: the recipe has no stage with this name{advice}"


def _stages(stages: Sequence[Stage], name: str) -> Iterator[Stage]:
    """The stages with this name, compared without case; if there are none, the stage with this number, from 0."""
    named = [stage for stage in stages if stage.name == name.lower()]
    return iter(named or [stage for stage in stages if str(stage.index) == name])
