"""Build arguments that no ARG declares."""

from __future__ import annotations

import pytest

from pybuild.builder.plan.check_build_args import unknown_build_args
from pybuild.builder.plan.resolve import resolve
from pybuild.parser import parse
from pybuild.store.formats.oci_config import ExecConfig
from tests.support.recipes import Images, image, options

IMAGES = Images({"base": image(), "parent": image(ExecConfig(on_build=("ARG TRIGGERED=1",)))})


def found(text: str, *names: str) -> list[str]:
    fields = options(build_args=dict.fromkeys(names, "1"))
    return [f"{w.span.line} {w.message}" for w in unknown_build_args(resolve(parse(text), fields, IMAGES), fields)]


@pytest.mark.parametrize(
    ("text", "name", "line", "similar"),
    [
        pytest.param("FROM base\nARG VERSION=1", "VERISON", 2, "VERSION", id="swapped letters"),
        pytest.param("ARG VERSION=1\nFROM base", "VERSIONS", 1, "VERSION", id="an ARG before FROM"),
        pytest.param("FROM base\nARG a b=1 VERSION", "VERSIO", 2, "VERSION", id="one of several"),
        pytest.param("FROM base AS s\nARG VERSION\nFROM base", "VERISON", 2, "VERSION", id="a stage that is not needed"),
        pytest.param("FROM base\nARG VERSION", "OTHER", 1, "", id="nothing is similar"),
        pytest.param("FROM base\nARG TARGETARCH", "TARGETRACH", 2, "TARGETARCH", id="a predefined ARG"),
        pytest.param("FROM base", "TARGETRACH", 1, "TARGETARCH", id="a predefined ARG that the recipe does not use"),
        pytest.param("FROM parent", "TRIGERED", 1, "TRIGGERED", id="an ARG of a trigger"),
        pytest.param("FROM base\nARG version", "VERSION", 2, "version", id="upper case"),
    ],
)  # fmt: skip
def test_a_build_argument_that_no_arg_declares(text: str, name: str, line: int, similar: str) -> None:
    hint = f" (did you mean {similar}?)" if similar else ""
    assert found(text, name) == [f'{line} Build argument "{name}" is not declared by any ARG{hint}']


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("FROM base\nARG VERSION", "VERSION"),
        ("ARG VERSION\nFROM base", "VERSION"),
        ("FROM base AS s\nARG VERSION\nFROM base", "VERSION"),
        ("FROM parent", "TRIGGERED"),
        ("FROM base", "TARGETPLATFORM"),
        ("FROM base", "HTTP_PROXY"),
        ("FROM base", "no_proxy"),
        ("FROM base", "SOURCE_DATE_EPOCH"),
        ("FROM base", "BUILDKIT_DOCKERFILE_CHECK"),
    ],
)
def test_a_build_argument_with_an_effect(text: str, name: str) -> None:
    assert found(text, name) == []


def test_each_build_argument_is_judged() -> None:
    assert [line.split('"')[1] for line in found("FROM base\nARG A", "A", "B", "C")] == ["B", "C"]
