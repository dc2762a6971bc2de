"""Rules about stages, and about instructions that have an effect only once per stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.parser.directives import DIRECTIVE
from pybuild.parser.instructions import Arg, Cmd, Entrypoint, Healthcheck

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.parser.buildfile import Buildfile
    from pybuild.parser.instructions import From
    from pybuild.values.source import Span

_RESERVED = ("context", "scratch")


def duplicate_stage_name(buildfile: Buildfile) -> Iterator[tuple[str, Span]]:
    """Two stages have the same name; after the second, the name means that one."""
    seen = set()
    for stage in buildfile.stages:
        if stage.name in seen:
            yield f'Duplicate stage name "{stage.name}", stage names should be unique', stage.base.span
        if stage.name is not None:
            seen.add(stage.name)


def reserved_stage_name(buildfile: Buildfile) -> Iterator[tuple[str, Span]]:
    """The name of a stage is a reserved word."""
    for stage in buildfile.stages:
        if stage.name in _RESERVED:
            yield f'Stage name should not use the same name as reserved stage "{stage.name}"', stage.base.span


def multiple_instructions_disallowed(buildfile: Buildfile) -> Iterator[tuple[str, Span]]:
    """A stage has two CMD, ENTRYPOINT or HEALTHCHECK. The warning is at the earlier one, which has no effect."""
    for stage in buildfile.stages:
        before: dict[str, Span] = {}
        for instruction in stage.instructions:
            if not isinstance(instruction, Cmd | Entrypoint | Healthcheck):
                continue
            keyword = instruction.keyword
            if keyword in before:
                yield (
                    f"Multiple {keyword} instructions should not be used in the same stage because only the last one will be used",
                    before[keyword],
                )
            before[keyword] = instruction.span


def invalid_definition_description(buildfile: Buildfile) -> Iterator[tuple[str, Span]]:
    """A comment directly above an ARG or a named FROM does not begin with the name."""
    lines = buildfile.source.text.split("\n")
    for instruction, names in _definitions(buildfile):
        above = lines[instruction.span.line - 2].strip() if instruction.span.line > 1 else ""
        comment = above[1:].strip() if above.startswith("#") and not _is_directive(above) else ""
        if comment and comment.split(" ")[0] not in names:
            example = names[0] if len(names) == 1 else "<arg_key>"
            yield (
                f"Comment for {instruction.keyword} should follow the format: `# {example} <description>`",
                instruction.span,
            )


def _definitions(buildfile: Buildfile) -> Iterator[tuple[From | Arg, list[str]]]:
    for arg in buildfile.args:
        yield arg, [item.name for item in arg.items]
    for stage in buildfile.stages:
        if stage.name is not None:
            yield stage.base, [stage.name]
        for instruction in stage.instructions:
            if isinstance(instruction, Arg):
                yield instruction, [item.name for item in instruction.items]


def _is_directive(line: str) -> bool:
    match = DIRECTIVE.match(line)
    return match is not None and match[1].lower() in ("check", "escape", "syntax")
