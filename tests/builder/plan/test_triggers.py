"""ONBUILD triggers of a base, HEALTHCHECK and MAINTAINER."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pybuild.builder.plan.graph import CopyStep, RunStep
from pybuild.store.formats.oci_config import ExecConfig
from tests.support.cli import BASE, write_context
from tests.support.recipes import Images, chain, config, history, image, planned, refusal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.cli import Pybuild


def base_with(*triggers: str) -> Images:
    return Images({"base": image(ExecConfig(on_build=triggers)), "other": image()})


def test_triggers_of_an_image_run_first_in_order_and_are_not_passed_on() -> None:
    result = planned("FROM base\nRUN own", base_with("RUN one", "ENV A=b", "RUN two"))
    steps = [node.step for node in chain(result, result.image.node)][1:]
    assert [step.argv[-1] for step in steps if isinstance(step, RunStep)] == ["one", "two", "own"]
    assert [("A=b" in step.env) for step in steps if isinstance(step, RunStep)] == [False, True, True]
    assert result.image.state.config.on_build == ()


def test_each_trigger_has_a_line_of_history_and_onbuild_has_none() -> None:
    assert history("FROM base\nONBUILD RUN later", base_with("RUN one", "ENV A=b")) == [
        "RUN /bin/sh -c one # buildkit", "~ENV A=b",
    ]  # fmt: skip


def test_triggers_of_a_stage_run_only_in_stages_from_it() -> None:
    result = planned("FROM base AS a\nONBUILD RUN x\nRUN y\nFROM a AS b\nFROM b\nRUN z")
    argvs = [node.step.argv[-1] for node in chain(result, result.image.node) if isinstance(node.step, RunStep)]
    assert argvs == ["y", "x", "z"]
    assert result.image.state.config.on_build == ()


def test_onbuild_is_kept_in_the_config_as_it_is_written() -> None:
    text = "FROM base\nONBUILD RUN echo $X\nONBUILD COPY --chown=$U a b"
    assert config(text).on_build == ("RUN echo $X", "COPY --chown=$U a b")


def test_a_trigger_can_copy_from_a_stage_of_the_recipe_that_it_runs_in() -> None:
    result = planned("FROM other AS built\nRUN x\nFROM base", base_with("COPY --from=built /a /b"))
    copy = result.nodes[result.image.node or 0]
    assert isinstance(copy.step, CopyStep)
    (source,) = copy.sources
    assert source is not None
    assert isinstance(result.nodes[source].step, RunStep)


def test_the_escape_character_of_a_trigger_is_the_backslash_whatever_the_recipe_says() -> None:
    result = planned("# escape=`\nFROM base\nENV B=`$x", base_with("ENV A=\\$x"))
    assert result.image.state.env["A"] == "$x"
    assert result.image.state.env["B"] == "$x"


@pytest.mark.parametrize(
    ("trigger", "message"),
    [
        ("RNU x", "1:6 ONBUILD trigger of base: 'RNU x': unknown instruction RNU"),
        ("FROM x", "1:6 ONBUILD trigger of base: 'FROM x': "),
        ("ONBUILD RUN x", "1:6 ONBUILD trigger of base: 'ONBUILD RUN x': "),
        ("COPY --from=none /a /b", "1:6 ONBUILD trigger of base: none: not in the store"),
        ("VOLUME $x", "1:6 ONBUILD trigger of base: VOLUME: a path is empty"),
    ],
    ids=["no instruction", "FROM", "ONBUILD", "a stage that is missing", "an empty path"],
)
def test_an_invalid_trigger_is_reported_at_the_from(trigger: str, message: str) -> None:
    assert refusal("FROM base", base_with(trigger)).startswith(message)


def test_the_number_of_triggers_is_limited() -> None:
    assert "1001 ONBUILD triggers exceed the limit of 1000" in refusal("FROM base", base_with(*["RUN x"] * 1001))


def test_a_trigger_that_fails_is_reported_at_the_from(pybuild: Pybuild, tmp_path: Path) -> None:
    pybuild("-t", "parent", write_context(tmp_path / "a", f"FROM {BASE}\nONBUILD RUN exit 5\n"))
    said = pybuild.refused(write_context(tmp_path / "b", "FROM parent\n"))
    assert "Buildfile:1:1: error: RUN exited with status 5" in said


def test_a_cached_build_on_a_base_with_triggers(pybuild: Pybuild, tmp_path: Path) -> None:
    pybuild("-t", "parent", write_context(tmp_path / "a", f"FROM {BASE}\nONBUILD COPY file /f\nONBUILD RUN cat /f\n"))
    context = write_context(tmp_path / "b", "FROM parent\nRUN true\n", file="1\n")
    first = pybuild("--progress=json", context)
    assert list(first.finished()) == ["COPY file /f", "RUN cat /f", "RUN true"]
    again = pybuild("--progress=json", context)
    assert again.out == first.out
    assert all(again.finished().values())


@pytest.mark.parametrize(
    ("text", "expected", "line"),
    [
        ("NONE", {"Test": ["NONE"]}, "{Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}"),
        (
            "CMD a  b", {"Test": ["CMD-SHELL", "a  b"]},
            "{Test:[CMD-SHELL a  b] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
        ),
        (
            '--interval=1h2m3.5s --timeout=1500us --retries=3 CMD ["a", "b"]',
            {"Test": ["CMD", "a", "b"], "Interval": 3_723_500_000_000, "Timeout": 1_500_000, "Retries": 3},
            "{Test:[CMD a b] Interval:1h2m3.5s Timeout:1.5ms StartPeriod:0s StartInterval:0s Retries:3}",
        ),
        (
            "--start-period=90s --start-interval=60m CMD x",
            {"Test": ["CMD-SHELL", "x"], "StartPeriod": 90_000_000_000, "StartInterval": 3_600_000_000_000},
            "{Test:[CMD-SHELL x] Interval:0s Timeout:0s StartPeriod:1m30s StartInterval:1h0m0s Retries:0}",
        ),
    ],
    ids=["NONE", "shell form", "exec form", "long times"],
)  # fmt: skip
def test_healthchecks(text: str, expected: dict[str, object], line: str) -> None:
    recipe = f"FROM base\nHEALTHCHECK {text}"
    assert config(recipe).healthcheck == expected
    assert history(recipe) == [f"~HEALTHCHECK {line}"]


def test_a_healthcheck_replaces_that_of_the_base() -> None:
    base = ExecConfig(healthcheck={"Test": ["CMD", "old"], "Retries": 9})
    assert config("FROM base\nHEALTHCHECK NONE", base).healthcheck == {"Test": ["NONE"]}
    assert config("FROM base\nENV a=b", base).healthcheck == base.healthcheck


def test_maintainer_sets_the_author_also_for_stages_from_the_stage() -> None:
    result = planned("FROM base AS a\nMAINTAINER me <m@example.org>\nFROM a\nENV a=b")
    assert result.image.state.author == "me <m@example.org>"
    assert history("FROM base\nMAINTAINER $me") == ["~MAINTAINER $me"]
