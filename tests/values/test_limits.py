"""Limits: their texts, their variables, and where they apply."""

from __future__ import annotations

import pytest

from pybuild.store.errors import InvalidImage
from pybuild.values import limits
from pybuild.values.limits import LAYER_BYTES, LIMITS, STAGES, applied, applied_below, from_environment, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("4096", 4096), ("20g", 20 << 30), ("20GiB", 20 << 30), ("1 kb", None), ("3T", 3 << 40), (" 5m ", 5 << 20)],
)
def test_a_size_can_have_a_unit(text: str, value: int | None) -> None:
    if value is None:
        with pytest.raises(ValueError, match="expected a whole number, or a size such as 20g"):
            parse(LAYER_BYTES, text)
    else:
        assert parse(LAYER_BYTES, text) == value


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "x", "9" * 30, "٣", "1gg", "0x10", "1e6", "5000000t"])
def test_what_is_not_a_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|too large"):
        parse(LAYER_BYTES, text)


def test_a_count_has_no_unit() -> None:
    assert parse(STAGES, "5000") == 5000
    with pytest.raises(ValueError, match="without a unit"):
        parse(STAGES, "5k")


def test_variables_change_limits() -> None:
    environ = {"PYBUILD_LIMIT_STAGES": "7", "PYBUILD_LIMIT_LAYER_BYTES": "1g", "PYBUILD_LIMIT_WORDS": "", "HOME": "/"}
    assert from_environment(environ) == {"stages": 7, "layer-bytes": 1 << 30}


@pytest.mark.parametrize(
    ("variable", "message"),
    [("PYBUILD_LIMIT_STAGE", "there is no such limit"), ("PYBUILD_LIMIT_STAGES", "PYBUILD_LIMIT_STAGES=x: expected")],
)
def test_a_mistake_names_the_variable(variable: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_environment({variable: "x"})


def test_limits_apply_inside_the_with_only() -> None:
    with applied({"stages": 5}):
        with applied({"words": 6}):
            assert (STAGES.value, LIMITS["words"].value) == (5, 6)
        with applied_below({"stages": 9, "words": 8}):
            assert (STAGES.value, LIMITS["words"].value) == (5, 8)
        assert (STAGES.value, LIMITS["words"].value) == (5, LIMITS["words"].default)
    assert STAGES.value == STAGES.default


def test_a_worker_gets_the_changed_limits() -> None:
    changed = {"stages": 5, "layer-bytes": 1 << 33}
    with applied(changed):
        assert from_environment(limits.to_environment()) == changed


def test_an_error_names_the_limit_and_the_ways_to_change_it() -> None:
    with applied({"layer-bytes": 3 << 30}):
        error = LAYER_BYTES.exceeded(InvalidImage, "expands to more than the limit of {}", hint="use less")
    assert str(error) == "expands to more than the limit of 3 GiB"
    assert error.hint == (
        "use less, or raise the limit layer-bytes with PYBUILD_LIMIT_LAYER_BYTES or in the configuration file"
    )


def test_names_are_words_with_hyphens_and_occur_once() -> None:
    assert len({limit.variable for limit in LIMITS.values()}) == len(LIMITS)
    assert all(name == limit.name and name.replace("-", "").isalpha() for name, limit in LIMITS.items())
