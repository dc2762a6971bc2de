"""The rules that need only the text: for each, recipes that break it and similar recipes that do not."""

from __future__ import annotations

import pytest

from pybuild.parser import parse
from pybuild.parser.checks import EXPERIMENTAL, OF_STAGES, RULES, select
from pybuild.parser.directives import read_checks
from pybuild.values.source import Span

ON_LINES = "NoEmptyContinuation", "BidirectionalText"  # found while the lines are read


def found(text: str, chosen: str | None = None) -> list[str]:
    """`line rule` of all warnings."""
    recipe = parse(text)
    checks = read_checks(chosen, Span(1, 1, 1, 1)) if chosen is not None else None
    return [f"{warning.span.line} {warning.rule}" for warning in select(recipe.warnings, recipe, checks)]


def message(text: str) -> str:
    (warning,) = parse(text).warnings
    return warning.message


HITS = [
    ("StageNameCasing", "FROM a AS Bad", 1),
    ("StageNameCasing", "FROM a AS ok\nFROM --platform=$BUILDPLATFORM a AS noT", 2),
    ("FromAsCasing", "FROM a as b", 1),
    ("FromAsCasing", "from a AS b", 1),
    ("FromAsCasing", "FROM a As b", 1),
    ("NoEmptyContinuation", "FROM a\nRUN x \\\n\n  y", 3),
    ("NoEmptyContinuation", "FROM a\nRUN x \\\n# c\n \t\n  y", 4),
    ("NoEmptyContinuation", "FROM a\nRUN x \\\n\n\n  y \\\n\n z", 3),
    ("ConsistentInstructionCasing", "FROM a\nrun x\nRUN y", 2),
    ("ConsistentInstructionCasing", "FROM a\nRun x", 2),
    ("ConsistentInstructionCasing", "FROM a\nrun x\nrun y", 1),
    ("DuplicateStageName", "FROM a AS b\nFROM a AS b", 2),
    ("DuplicateStageName", "FROM a AS b\nFROM c\nFROM a AS b", 3),
    ("ReservedStageName", "FROM a AS scratch", 1),
    ("ReservedStageName", "FROM a AS context", 1),
    ("MaintainerDeprecated", "FROM a\nMAINTAINER me", 2),
    ("UndefinedArgInFrom", "FROM a${v}", 1),
    ("UndefinedArgInFrom", "FROM a:${v:-1}", 1),
    ("UndefinedArgInFrom", "FROM --platform=$P a", 1),
    ("UndefinedArgInFrom", "ARG a\nFROM b\nARG v\nFROM $v", 4),
    ("MultipleInstructionsDisallowed", 'FROM a\nCMD ["b"]\nCMD ["c"]', 2),
    ("MultipleInstructionsDisallowed", 'FROM a\nENTRYPOINT ["b"]\nRUN x\nENTRYPOINT ["c"]', 2),
    ("MultipleInstructionsDisallowed", "FROM a\nHEALTHCHECK NONE\nHEALTHCHECK CMD x", 2),
    ("LegacyKeyValueFormat", "FROM a\nENV b c", 2),
    ("LegacyKeyValueFormat", "FROM a\nENV b c=d", 2),
    ("LegacyKeyValueFormat", "FROM a\nENV b =d", 2),
    ("LegacyKeyValueFormat", "FROM a\nLABEL b c", 2),
    ("LegacyKeyValueFormat", "FROM a\nENV -- b c", 2),
    ("RedundantTargetPlatform", "FROM --platform=$TARGETPLATFORM a", 1),
    ("RedundantTargetPlatform", "FROM --platform=${TARGETPLATFORM} a", 1),
    ("RedundantTargetPlatform", "FROM --platform=${TARGETPLATFORM:-linux/arm64} a", 1),
    ("RedundantTargetPlatform", "FROM --platform=${TARGETPLATFORM%x} a", 1),
    ("SecretsUsedInArgOrEnv", "FROM a\nARG API_KEY", 2),
    ("SecretsUsedInArgOrEnv", "FROM a\nARG b=1 GITHUB_TOKEN=2", 2),
    ("SecretsUsedInArgOrEnv", "FROM a\nENV auth=b", 2),
    ("SecretsUsedInArgOrEnv", "FROM a\nENV db_password_x=b", 2),
    ("InvalidDefinitionDescription", "# what it is\nFROM a AS b", 2),
    ("InvalidDefinitionDescription", "FROM a\n# the version\nARG v=1", 3),
    ("InvalidDefinitionDescription", "FROM a\n# v it is\n# no\nARG v=1 w=2", 4),
    ("InvalidDefinitionDescription", "# B it is\nFROM a AS b", 2),
    ("BidirectionalText", "FROM a\nRUN \u202e", 2),
]
MISSES = [
    ("StageNameCasing", "FROM A AS b"),
    ("StageNameCasing", "FROM a"),
    ("FromAsCasing", "FROM a AS b\nFROM c"),
    ("FromAsCasing", "from a as b"),
    ("FromAsCasing", "From a as b"),
    ("NoEmptyContinuation", "FROM a\nRUN x \\\n# c\n  y\n\nRUN z"),
    ("NoEmptyContinuation", "FROM a\nRUN <<E\n\nE\n"),
    ("NoEmptyContinuation", "FROM a\nRUN x \\\n"),
    ("ConsistentInstructionCasing", "arg a\nFROM b\nRUN c"),
    ("ConsistentInstructionCasing", "from b\nrun c\nonbuild RUN d"),
    ("DuplicateStageName", "FROM a\nFROM a\nFROM a AS a"),
    ("ReservedStageName", "FROM scratch AS scratch-2"),
    ("MaintainerDeprecated", "FROM a\nLABEL maintainer=me"),
    ("UndefinedArgInFrom", "ARG v\nFROM --platform=$BUILDPLATFORM a$v$TARGETSTAGE\nFROM a\\$x\nFROM '$y'"),
    ("MultipleInstructionsDisallowed", 'FROM a\nCMD ["b"]\nENTRYPOINT ["c"]\nFROM d\nCMD ["e"]'),
    ("LegacyKeyValueFormat", "FROM a\nENV b=c\nLABEL d=e f=g\nENV \"h i\"=j k='l m'\nENV -- n=o"),
    ("RedundantTargetPlatform", "FROM --platform=$BUILDPLATFORM a\nFROM --platform=linux/$TARGETARCH a"),
    ("RedundantTargetPlatform", "FROM --platform=${TARGETPLATFORM:-$BUILDPLATFORM} a"),
    ("RedundantTargetPlatform", "FROM --platform=${TARGETPLATFORM:+linux/arm64} a"),
    ("RedundantTargetPlatform", "FROM --platform=${TARGETPLATFORM}/v8 a"),
    ("SecretsUsedInArgOrEnv", "FROM a\nARG TOKENS PASSWORD_FILE KEY_VERSION public_key\nENV KEYBOARD=x AUTHOR=y\nLABEL key=z"),
    ("SecretsUsedInArgOrEnv", "ARG API_KEY\nFROM a"),
    ("InvalidDefinitionDescription", "# b is it\nFROM a AS b\n# w here\nARG v w\n# any\nRUN x\n# any\n\nARG y\n#\nARG z"),
    ("InvalidDefinitionDescription", "# check=experimental=all\nFROM a AS b\n# c\nFROM d"),
    ("BidirectionalText", "FROM a\nRUN \u05d0"),
]


@pytest.mark.parametrize(("rule", "text", "line"), HITS)
def test_a_recipe_that_breaks_a_rule(rule: str, text: str, line: int) -> None:
    of_rule = [place for place in found(text, "experimental=all") if place.endswith(f" {rule}")]
    assert of_rule == [f"{line} {rule}"]


@pytest.mark.parametrize(("rule", "text"), MISSES)
def test_a_recipe_that_does_not_break_the_rule(rule: str, text: str) -> None:
    assert not [place for place in found(text, "experimental=all") if place.endswith(f" {rule}")]


def test_every_rule_has_rows() -> None:
    rules = {*RULES, *ON_LINES}
    assert {rule for rule, _, _ in HITS} == rules == {rule for rule, _ in MISSES}
    assert rules > OF_STAGES | EXPERIMENTAL


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FROM a AS Bad", "Stage name 'Bad' should be lowercase"),
        ("FROM a as b", "'as' and 'FROM' keywords' casing do not match"),
        ("FROM a\nRUN \\\n\n x", "Empty continuation line"),
        ("FROM a\nrun x\nRUN y", "Command 'run' should match the case of the command majority (uppercase)"),
        ("FROM a AS b\nFROM a AS b", 'Duplicate stage name "b", stage names should be unique'),
        ("FROM a AS scratch", 'Stage name should not use the same name as reserved stage "scratch"'),
        ("FROM a\nMAINTAINER b", "Maintainer instruction is deprecated in favor of using label"),
        ("ARG version\nFROM a:$vesrion", "FROM argument 'vesrion' is not declared (did you mean version?)"),
        ("FROM $x", "FROM argument 'x' is not declared"),
        (
            'FROM a\nCMD ["b"]\nCMD ["c"]',
            "Multiple CMD instructions should not be used in the same stage because only the last one will be used",
        ),
        ("FROM a\nENV b c", '"ENV key=value" should be used instead of legacy "ENV key value" format'),
        (
            "FROM --platform=$TARGETPLATFORM a",
            "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        ),
        ("FROM a\nARG key", 'Do not use ARG or ENV instructions for sensitive data (ARG "key")'),
        ("# x\nFROM a AS b", "Comment for FROM should follow the format: `# b <description>`"),
        ("# x\nARG c d\nFROM a", "Comment for ARG should follow the format: `# <arg_key> <description>`"),
    ],
)
def test_the_wording_is_that_of_buildkit(text: str, said: str) -> None:
    assert message(text) == said


# Which warnings are skipped


BAD = "FROM a as B\nMAINTAINER c"
ALL = ["1 StageNameCasing", "1 FromAsCasing", "2 MaintainerDeprecated"]


@pytest.mark.parametrize(
    ("text", "chosen", "left"),
    [
        pytest.param(BAD, None, ALL, id="all rules are on"),
        pytest.param("# check=skip=all\n" + BAD, None, [], id="skip=all"),
        pytest.param(BAD, "skip=FromAsCasing,StageNameCasing", ["2 MaintainerDeprecated"], id="given outside of the recipe"),
        pytest.param("# check=skip=all\n" + BAD, "error=true", ["2 StageNameCasing", "2 FromAsCasing", "3 MaintainerDeprecated"], id="a choice outside of the recipe replaces the directive"),
        pytest.param(BAD, "skip=NoSuchRule", ALL, id="unknown rules"),
        pytest.param("FROM a as B\n# check=skip=MaintainerDeprecated\nMAINTAINER c", None, ALL[:2], id="a comment above an instruction"),
        pytest.param("FROM a\n# check=skip=all\nRUN x \\\n\n  y", None, [], id="a comment above an instruction of several lines"),
        pytest.param("FROM a\n# check=skip=all\nRUN x\nMAINTAINER c", None, ["4 MaintainerDeprecated"], id="a comment is for one instruction only"),
        pytest.param("# what\nFROM a AS b", "skip=all", [], id="experimental rules are off"),
        pytest.param("# what\nFROM a AS b", "skip=all;experimental=all", ["2 InvalidDefinitionDescription"], id="experimental=all"),
        pytest.param("# what\nFROM a AS b", "experimental=InvalidDefinitionDescription", ["2 InvalidDefinitionDescription"], id="an experimental rule by name"),
    ],
)  # fmt: skip
def test_rules_can_be_skipped(text: str, chosen: str | None, left: list[str]) -> None:
    assert found(text, chosen) == left


def test_one_rule_yields_at_most_100_warnings() -> None:
    assert len(parse("FROM a\n" + "MAINTAINER b\n" * 1000).warnings) == 100
