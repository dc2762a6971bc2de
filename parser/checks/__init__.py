"""Rules that warn about valid but risky recipes and need nothing but the text.

A rule is a function that yields messages with their places; `RULES` lists them, and `select` drops the warnings that the user skips.
The rules that need the plan or the context are in builder/plan/lint.py. Names and wording are those of BuildKit's build
checks, https://docs.docker.com/reference/build-checks/.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import islice
from typing import TYPE_CHECKING

from pybuild.parser.buildfile import MAX_OF_ONE_RULE, Checks, ParseWarning
from pybuild.parser.checks import casing, platforms, stages, values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pybuild.parser.buildfile import Buildfile
    from pybuild.parser.instructions import From, Instruction
    from pybuild.values.source import Span

Found = tuple[str, "Span"]

RULES: dict[str, Callable[[Buildfile], Iterator[Found]]] = {
    "StageNameCasing": casing.stage_name_casing,
    "FromAsCasing": casing.from_as_casing,
    "ConsistentInstructionCasing": casing.consistent_instruction_casing,
    "DuplicateStageName": stages.duplicate_stage_name,
    "ReservedStageName": stages.reserved_stage_name,
    "MultipleInstructionsDisallowed": stages.multiple_instructions_disallowed,
    "InvalidDefinitionDescription": stages.invalid_definition_description,
    "MaintainerDeprecated": values.maintainer_deprecated,
    "LegacyKeyValueFormat": values.legacy_key_value_format,
    "SecretsUsedInArgOrEnv": values.secrets_used_in_arg_or_env,
    "UndefinedArgInFrom": platforms.undefined_arg_in_from,
    "RedundantTargetPlatform": platforms.redundant_target_platform,
}
# Rules about single stages; a build leaves out their warnings for stages that the target does not need.
OF_STAGES = frozenset(("MultipleInstructionsDisallowed", "LegacyKeyValueFormat", "SecretsUsedInArgOrEnv"))
EXPERIMENTAL = frozenset(("InvalidDefinitionDescription",))


def check_text(buildfile: Buildfile) -> tuple[ParseWarning, ...]:
    """The warnings of the line scanner and of all rules of this package."""
    found = [
        ParseWarning(name, message, span)
        for name, rule in RULES.items()
        for message, span in islice(rule(buildfile), MAX_OF_ONE_RULE)
    ]
    return (*buildfile.warnings, *found)


def select(
    warnings: Iterable[ParseWarning], buildfile: Buildfile, chosen: Checks | None = None
) -> tuple[ParseWarning, ...]:
    """The warnings that the user does not skip, in the order of the recipe.

    `chosen`, given outside of the recipe, replaces the `# check=` at its top. One directly above an instruction
    is added for that instruction.
    """
    checks = chosen or buildfile.checks or Checks()
    lines = sorted(instruction.span.line for instruction in _all(buildfile))
    checks_of_line = dict(buildfile.line_checks)

    def wanted(warning: ParseWarning) -> bool:
        index = bisect_right(lines, warning.span.line) - 1
        here = checks_of_line.get(lines[index], Checks()) if index >= 0 else Checks()
        if warning.rule in EXPERIMENTAL:
            return not {"*", warning.rule}.isdisjoint((*checks.experimental, *here.experimental))
        return {"*", warning.rule}.isdisjoint((*checks.skip, *here.skip))

    return tuple(sorted(filter(wanted, warnings), key=lambda w: (w.span.line, w.span.column)))


def _all(buildfile: Buildfile) -> Iterator[From | Instruction]:
    yield from buildfile.args
    for stage in buildfile.stages:
        yield stage.base
        yield from stage.instructions
