"""Rules about the variables and the --platform of FROM."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from pybuild.parser.errors import ExpansionError
from pybuild.parser.suggest import suggest
from pybuild.parser.words import RecordingScope, expand

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pybuild.parser.buildfile import Buildfile
    from pybuild.parser.instructions import Word
    from pybuild.values.source import Span

PLATFORM_ARGS = tuple(
    f"{prefix}{name}" for prefix in ("BUILD", "TARGET") for name in ("PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT")
)
_TARGET = "TARGETPLATFORM"
_EXAMPLE = "linux/amd64"  # a value of TARGETPLATFORM


def names_in(word: Word, escape: str) -> Sequence[str]:
    """The names of the variables in a word, in order."""
    names = RecordingScope({})
    with suppress(ExpansionError):  # the planner reports it
        expand(word.text, names, escape=escape)
    return list(names.missing)


def undefined_arg_in_from(buildfile: Buildfile) -> Iterator[tuple[str, Span]]:
    """FROM uses a variable that no ARG before the first FROM declares."""
    known = {item.name for arg in buildfile.args for item in arg.items} | {*PLATFORM_ARGS, "TARGETSTAGE"}
    for stage in buildfile.stages:
        for word in filter(None, (stage.base.image, stage.base.platform)):
            for name in names_in(word, buildfile.escape):
                if name not in known:
                    similar = suggest(name, sorted(known))
                    yield (
                        f"FROM argument '{name}' is not declared" + (f" (did you mean {similar}?)" if similar else ""),
                        stage.base.span,
                    )


def redundant_target_platform(buildfile: Buildfile) -> Iterator[tuple[str, Span]]:
    """FROM has --platform=$TARGETPLATFORM, with or without a modifier such as `:-`, and no other variable."""
    for stage in buildfile.stages:
        word = stage.base.platform
        if word is not None and _is_target_platform(word, buildfile.escape):
            yield (
                f"Setting platform to predefined {word.text} in FROM is redundant as this is the default behavior",
                stage.base.span,
            )


def _is_target_platform(word: Word, escape: str) -> bool:
    scope = RecordingScope({_TARGET: _EXAMPLE})
    with suppress(ExpansionError):
        return expand(word.text, scope, escape=escape) == _EXAMPLE and not scope.missing and bool(scope.found)
    return False
