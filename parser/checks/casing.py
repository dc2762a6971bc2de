"""Rules about lower and upper case."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.parser.buildfile import Buildfile
    from pybuild.parser.instructions import From
    from pybuild.values.source import Span


def stage_name_casing(buildfile: Buildfile) -> Iterator[tuple[str, Span]]:
    """The name of a stage has upper case letters; references to it are compared in lower case."""
    for base in _named(buildfile):
        name = base.text.split()[-1]
        if name != name.lower():
            yield f"Stage name '{name}' should be lowercase", base.span


def from_as_casing(buildfile: Buildfile) -> Iterator[tuple[str, Span]]:
    """FROM and AS differ in case: `FROM a as b`."""
    for base in _named(buildfile):
        keyword, as_ = base.text.split()[0], base.text.split()[-2]
        if (keyword.islower() and not as_.islower()) or (keyword.isupper() and not as_.isupper()):
            yield f"'{as_}' and '{keyword}' keywords' casing do not match", base.span


def consistent_instruction_casing(buildfile: Buildfile) -> Iterator[tuple[str, Span]]:
    """A keyword differs in case from the majority. ARGs before the first FROM do not count."""
    keywords = [
        (instruction.text.split(None, 1)[0], instruction.span)
        for stage in buildfile.stages
        for instruction in (stage.base, *stage.instructions)
    ]
    lower = sum(keyword.islower() for keyword, _ in keywords) > sum(keyword.isupper() for keyword, _ in keywords)
    for keyword, span in keywords:
        if not (keyword.islower() if lower else keyword.isupper()):
            case = "lowercase" if lower else "uppercase"
            yield f"Command '{keyword}' should match the case of the command majority ({case})", span


def _named(buildfile: Buildfile) -> Iterator[From]:
    return (stage.base for stage in buildfile.stages if stage.base.alias is not None)
