"""The stages that a target needs, and the base of each."""

from __future__ import annotations

from typing import Any

import pytest

from pybuild.builder.errors import PlanError
from tests.support.recipes import Images, image, planned, refusal, resolved

THREE = """\
FROM base AS one
RUN a
FROM base AS two
RUN b
FROM base
COPY --from=one /x /x
"""


def needed(text: str, **fields: Any) -> list[int]:
    return list(resolved(text, **fields).stages)


@pytest.mark.parametrize(
    ("target", "index"),
    [
        pytest.param(None, 2, id="the last stage"),
        pytest.param("two", 1, id="a name"),
        pytest.param("TWO", 1, id="a name in capitals"),
        pytest.param("0", 0, id="a number"),
        pytest.param("2", 2, id="the number of a stage without a name"),
    ],
)
def test_a_target_is_found(target: str | None, index: int) -> None:
    assert resolved(THREE, target=target).target == index


def test_the_target_is_the_last_stage_with_its_name() -> None:
    assert resolved("FROM base AS a\nRUN 1\nFROM base AS a\nRUN 2\nFROM base", target="a").target == 1


@pytest.mark.parametrize(
    ("text", "target", "hint"),
    [
        pytest.param(THREE, "tow", "did you mean two?", id="a mistyped name"),
        pytest.param(THREE, "runtime", "the stages are: one, two", id="another name"),
        pytest.param(THREE, "3", "the stages are: one, two", id="a number too high"),
        pytest.param(THREE, "²", "the stages are: one, two", id="a digit that is not ASCII"),
        pytest.param(THREE, "9" * 5000, "the stages are: one, two", id="a number of thousands of digits"),
        pytest.param(THREE, "-1", "the stages are: one, two", id="a negative number"),
        pytest.param("FROM base", "x", "no stage has a name", id="no names at all"),
    ],
)
def test_an_unknown_target_is_refused_with_a_hint(text: str, target: str, hint: str) -> None:
    with pytest.raises(PlanError, match="is not in the recipe") as caught:
        resolved(text, target=target)
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("text", "target", "indexes"),
    [
        pytest.param(THREE, None, [0, 2], id="through COPY --from"),
        pytest.param(THREE, "two", [1], id="alone"),
        pytest.param("FROM base AS a\nFROM a AS b\nFROM base AS c\nFROM b", None, [0, 1, 3], id="through FROM"),
        pytest.param("FROM base\nFROM base\nFROM base\nCOPY --from=1 / /", None, [1, 2], id="by number"),
        pytest.param("FROM base AS a\nFROM base\nCOPY --from=A / /", None, [0, 1], id="by name in capitals"),
        pytest.param("FROM base AS a\nFROM a\nCOPY --from=a / /", None, [0, 1], id="in both ways"),
    ],
)
def test_only_stages_that_the_target_needs_are_resolved(text: str, target: str | None, indexes: list[int]) -> None:
    assert needed(text, target=target) == indexes


def test_images_of_unused_stages_are_not_asked_for() -> None:
    images = Images({"base": image()})
    resolved("FROM nowhere AS unused\nFROM base", images)
    assert images.asked == ["base"]


def test_a_stage_shadows_an_image_of_its_name_for_later_stages() -> None:
    images = Images({"base": image()})
    found = resolved("FROM base AS base\nRUN x\nFROM base", images)
    assert images.asked == ["base"]
    assert (found.stages[1].parent, found.stages[1].image) == (0, None)


def test_from_names_the_nearest_earlier_stage_with_a_name() -> None:
    assert resolved("FROM base AS a\nFROM base AS a\nFROM a\nFROM base AS a", target="2").stages[2].parent == 1


def test_scratch_is_neither_image_nor_stage() -> None:
    images = Images()
    stage = resolved("FROM scratch\nCOPY a /", images).stages[0]
    assert (stage.image, stage.parent, images.asked) == (None, None, [])


@pytest.mark.parametrize(
    ("text", "build_args", "asked"),
    [
        pytest.param("ARG I=base\nFROM $I", {}, "base", id="default"),
        pytest.param("ARG I=other\nFROM ${I}", {"I": "base"}, "base", id="build-arg"),
        pytest.param("ARG V=1\nARG I=base:$V\nFROM $I", {}, "base:1", id="a default that uses another ARG"),
        pytest.param("ARG A=base B=$A\nFROM $B", {}, "base", id="a default that uses one of the same line"),
        pytest.param("FROM base:$TARGETARCH", {}, "base:amd64", id="platform"),
        pytest.param("FROM base:$TARGETARCH", {"TARGETARCH": "riscv"}, "base:riscv", id="platform, overridden"),
        pytest.param("FROM base:${TARGETSTAGE}", {}, "base:default", id="the stage that is built"),
        pytest.param("ARG I\nFROM ${I:-base}", {}, "base", id="no value, and a default in the variable"),
        pytest.param("ARG I=\nFROM ${I:-base}", {"I": ""}, "base", id="an empty value"),
    ],
)
def test_the_base_is_expanded_in_the_scope_of_the_global_args(
    text: str, build_args: dict[str, str], asked: str
) -> None:
    images = Images({name: image() for name in ("base", "base:1", "base:amd64", "base:riscv", "base:default")})
    resolved(text, images, build_args=build_args)
    assert images.asked == [asked]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("FROM $X", "1:6 FROM $X: the name is empty", id="a base without a value"),
        pytest.param(
            "FROM base AS s\nARG X=1\nFROM base$X:", "3:6 invalid tag '' in 'base:'", id="an ARG of a stage is not seen"
        ),
        pytest.param("FROM Base", "1:6 invalid image name 'Base'", id="an image name in capitals"),
        pytest.param("FROM base\nFROM nowhere", "2:6 nowhere: not in the store", id="an unknown image"),
        pytest.param("ARG A='x\nFROM base", "1:7 unexpected end of the word", id="a lone quote in a default"),
        pytest.param("FROM ${A?unset}", "1:6 A: unset", id="a demanded variable"),
        pytest.param("FROM base\nCOPY --from=1 / /", "2:13 COPY --from=1: there is no stage 1 before this one", id="later"),
        pytest.param("FROM base\nCOPY --from=0 / /", "2:13 COPY --from=0: there is no stage 0 before this one", id="itself"),
        pytest.param(
            "FROM base AS a\nCOPY --from=b / /\nFROM base AS b\nFROM a",
            "2:13 COPY --from=b: stage b does not come before this one",
            id="a name that comes later",
        ),
        pytest.param(
            "FROM base AS a\nCOPY --from=a / /", "2:13 COPY --from=a: stage a does not come before this one", id="its own name"
        ),
    ],
)  # fmt: skip
def test_errors_have_a_place_in_the_recipe(text: str, message: str) -> None:
    assert refusal(text).startswith(message)


def test_a_mistyped_source_stage_gets_a_hint() -> None:
    with pytest.raises(PlanError) as caught:
        resolved("FROM base AS builder\nFROM base\nCOPY --from=biulder / /")
    assert caught.value.hint == "did you mean the stage builder?"


@pytest.mark.parametrize("number", ["²", "٣", "9" * 5000])
def test_only_ascii_digits_are_a_stage_number(number: str) -> None:
    assert refusal(f"FROM base\nFROM base\nCOPY --from={number} / /").startswith("3:13 ")


def test_errors_in_the_words_of_an_unused_stage_are_not_found() -> None:
    resolved("FROM ${X?} AS unused\nCOPY --from=9 / /\nFROM base")


FROM_ARG = """\
ARG WHERE=one
FROM base AS one
RUN a
FROM base AS two
RUN b
FROM base
ARG LOCAL=one
COPY --from=$WHERE /x /x
"""


@pytest.mark.parametrize(
    ("text", "args", "stages"),
    [
        pytest.param(FROM_ARG, {}, [0, 2], id="E25 a default"),
        pytest.param(FROM_ARG, {"WHERE": "two"}, [1, 2], id="E25 a build-arg"),
        pytest.param(FROM_ARG, {"WHERE": "1"}, [1, 2], id="E25 a number"),
        pytest.param(FROM_ARG, {"WHERE": "base"}, [2], id="E25 an image"),
        pytest.param(FROM_ARG.replace("$WHERE", "${WHERE%e}e"), {}, [0, 2], id="E25 a modifier"),
        pytest.param(FROM_ARG.replace("$WHERE", "${LOCAL:-two}"), {}, [1, 2], id="E25 an ARG of the stage does not count"),
    ],
)
def test_the_name_in_copy_from_can_have_variables(text: str, args: dict[str, str], stages: list[int]) -> None:
    assert needed(text, build_args=args) == stages


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("$LOCAL", "8:13 COPY --from=$LOCAL: the name is empty"),
        ("${WHERE?}${NONE?}", "8:13 "),
        ("${TARGETOS}s", "8:13 linuxs: not in the store"),
    ],
)
def test_an_empty_name_in_copy_from_is_refused_at_its_place(source: str, message: str) -> None:
    assert refusal(FROM_ARG.replace("$WHERE", source)).startswith(message)


def test_copy_from_a_variable_reads_the_node_of_its_value() -> None:
    plan = planned(FROM_ARG, build_args={"WHERE": "two"})
    last = plan.nodes[plan.image.node or 0]
    assert [plan.nodes[source or 0].text for source in last.sources] == ["RUN b"]
