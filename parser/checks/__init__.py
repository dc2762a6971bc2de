"""Rules about recipes that are allowed and still unwise, by BuildKit's names; those here need nothing but the text.

A rule is a function that gives messages with their places. `RULES` is the list of them; what is to be left out is
decided later, by `select`. Rules that have to know the plan or the context are the builder's. Source of names and
wording: BuildKit's build checks, https://docs.docker.com/reference/build-checks/.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import islice
from typing import TYPE_CHECKING

from pybuild.parser.buildfile import Checks, ParseWarning
from pybuild.parser.checks import casing, platforms, stages, values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pybuild.parser.buildfile import Buildfile
    from pybuild.values.source import Span

Found = tuple[str, "Span"]
MAX_OF_ONE_RULE = 100  # warnings; a recipe of a hundred thousand instructions may break one in each

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
    "FromPlatformFlagConstDisallowed": platforms.from_platform_flag_const_disallowed,
}
# Those that look at each stage by itself: what is said of one that nobody needs is of no use to a build.
OF_STAGES = frozenset(("MultipleInstructionsDisallowed", "LegacyKeyValueFormat", "SecretsUsedInArgOrEnv"))
EXPERIMENTAL = frozenset(("InvalidDefinitionDescription",))


def check_text(buildfile: Buildfile) -> tuple[ParseWarning, ...]:
    """What was noticed while the lines were read, and what all rules of this package find."""
    found = [
        ParseWarning(name, message, span)
        for name, rule in RULES.items()
        for message, span in islice(rule(buildfile), MAX_OF_ONE_RULE)
    ]
    return (*buildfile.warnings, *found)


def select(
    warnings: Iterable[ParseWarning], buildfile: Buildfile, chosen: Checks | None = None
) -> tuple[ParseWarning, ...]:
    """What is left of the warnings, in the order of the recipe.

    `chosen` (what was said outside of the recipe) stands instead of the recipe's `# check=`; one right above an
    instruction adds to either, for that instruction.
    """
    checks = chosen or buildfile.checks or Checks()
    lines = sorted(instruction.span.line for instruction in _all(buildfile))
    of_line = dict(buildfile.line_checks)

    def wanted(warning: ParseWarning) -> bool:
        index = bisect_right(lines, warning.span.line) - 1
        here = of_line.get(lines[index], Checks()) if index >= 0 else Checks()
        if warning.rule in EXPERIMENTAL:
            return not {"*", warning.rule}.isdisjoint((*checks.experimental, *here.experimental))
        return {"*", warning.rule}.isdisjoint((*checks.skip, *here.skip))

    return tuple(sorted(filter(wanted, warnings), key=lambda w: (w.span.line, w.span.column)))


def _all(buildfile: Buildfile) -> Iterator[stages.Any]:
    yield from buildfile.args
    for stage in buildfile.stages:
        yield stage.base
        yield from stage.instructions
