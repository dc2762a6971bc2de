"""A short recipe cannot expand to more text than the memory holds."""

from __future__ import annotations

import pytest

from pybuild.values.limits import ENVIRONMENT_CHARACTERS, EXPANDED_CHARACTERS
from tests.support.recipes import planned, refusal

DOUBLED = "FROM base\nENV a=0123456789abcdef\n" + "ENV a=$a$a\n" * 15  # 512 Ki characters in the end
TOO_MUCH = f"the expanded words of the recipe exceed the limit of {EXPANDED_CHARACTERS.default} characters"


@pytest.mark.parametrize(
    ("more", "place"),
    [
        pytest.param("ENV b=$a", "47:7", id="values"),
        pytest.param("LABEL b=$a", "47:9", id="labels"),
        pytest.param("ARG b=$a", "48:7", id="defaults"),
        pytest.param("COPY <<E /x\n$a\nE", "105:6", id="heredocs"),
        pytest.param("RUN --mount=type=tmpfs,target=/$a x", "47:24", id="mounts"),
    ],
)
def test_the_expanded_words_of_a_recipe_have_a_limit(more: str, place: str) -> None:
    """Doubling the variable takes 1 MiB of the limit, each further word half a MiB."""
    planned(DOUBLED + f"{more}\n" * 20)
    assert refusal(DOUBLED + f"{more}\n" * 40) == f"{place} {TOO_MUCH}"


def test_a_path_has_a_limit_of_its_own() -> None:
    for text, column in (("COPY $a /x", 6), ("COPY x /$a", 8)):
        assert refusal(f"{DOUBLED}{text}") == f"18:{column} COPY: a path exceeds the limit of 4096 characters"


def test_global_args_have_the_limit_too() -> None:
    text = "ARG a=0123456789abcdef\n" + "ARG a=$a$a\n" * 15 + "ARG b=$a\n" * 40 + "FROM base"
    assert refusal(text) == f"47:7 {TOO_MUCH}"


def test_the_environments_of_all_runs_have_a_limit() -> None:
    count = ENVIRONMENT_CHARACTERS.default >> 19
    planned(DOUBLED + "RUN x\n" * (count - 10))
    said = refusal(DOUBLED + "RUN x\n" * (count + 10))
    assert said.endswith(f"1 the environments of all RUNs exceed the limit of {ENVIRONMENT_CHARACTERS.default} characters")
