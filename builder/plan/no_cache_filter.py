"""--no-cache-filter: the stages that are made anew, whatever the cache has of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.parser import suggest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pybuild.builder.options import BuildOptions
    from pybuild.parser import Buildfile, Stage


def fresh_stages(buildfile: Buildfile, options: BuildOptions) -> frozenset[int]:
    """The stages, by index, whose steps the cache must not serve."""
    if options.no_cache:
        return frozenset(stage.index for stage in buildfile.stages)
    return frozenset(stage.index for name in options.no_cache_stages for stage in _stages(buildfile.stages, name))


def unknown_stages(buildfile: Buildfile, options: BuildOptions) -> Iterator[str]:
    """What to say about names that no stage has.

    docker takes such a name without a word, so that one command line can be used for several recipes; but a slip of the
    pen must not pass for a stage that was made anew.
    """
    for name in options.no_cache_stages:
        if not any(_stages(buildfile.stages, name)):
            similar = suggest(name.lower(), [stage.name for stage in buildfile.stages if stage.name])
            advice = f"; did you mean {similar}?" if similar else ""
            yield f"--no-cache-filter {name}: no stage of the recipe is called so{advice}"


def _stages(stages: Sequence[Stage], name: str) -> Iterator[Stage]:
    """Those of a name, in any case; where there are none, the one with this number, counted from 0."""
    named = [stage for stage in stages if stage.name == name.lower()]
    return iter(named or [stage for stage in stages if str(stage.index) == name])
