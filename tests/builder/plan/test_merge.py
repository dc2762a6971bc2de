"""One plan for several platforms: what they share is in it once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pybuild.builder.plan.merge import merged
from pybuild.store.formats.platform import Platform
from tests.support.recipes import planned

if TYPE_CHECKING:
    from pybuild.builder.plan.graph import Plan

AMD, ARM, V7 = Platform("linux", "amd64"), Platform("linux", "arm64"), Platform("linux", "arm", "v7")
CROSS = """
FROM --platform=$BUILDPLATFORM scratch AS src
COPY a /a
FROM src AS cross
ARG TARGETARCH
RUN build $TARGETARCH
FROM scratch
COPY --from=cross /out /out
"""


def plan_for(text: str, *platforms: Platform) -> Plan:
    return merged([(one, planned(text, platform=one, build_platform=AMD)) for one in platforms])


def shown(plan: Plan) -> list[str]:
    return [f"[{node.shown_stage}] {node.text}" for node in plan.nodes]


def test_a_stage_of_the_build_platform_is_made_once() -> None:
    assert shown(plan_for(CROSS, AMD, ARM, V7)) == [
        "[linux/amd64 src] COPY a /a",
        "[linux/amd64 cross] RUN build $TARGETARCH",
        "[linux/amd64 stage-2] COPY --from=cross /out /out",
        "[linux/amd64->arm64 cross] RUN build $TARGETARCH",
        "[linux/arm64 stage-2] COPY --from=cross /out /out",
        "[linux/amd64->arm/v7 cross] RUN build $TARGETARCH",
        "[linux/arm/v7 stage-2] COPY --from=cross /out /out",
    ]


def test_every_node_comes_after_those_it_needs_and_each_image_has_its_own() -> None:
    plan = plan_for(CROSS, AMD, ARM)
    assert [node.id for node in plan.nodes] == list(range(len(plan.nodes)))
    for node in plan.nodes:
        assert all(below is None or below < node.id for below in (node.parent, *node.sources))
    assert [image.platform for image in plan.images] == [AMD, ARM]
    assert plan.targets == {image.node for image in plan.images}
    for image in plan.images:
        (line,) = (line for line in image.history if line.node is not None)
        assert line.node == image.node


def test_a_plan_for_one_platform_is_not_changed() -> None:
    plan = planned(CROSS, platform=ARM, build_platform=AMD)
    assert merged([(ARM, plan)]) is plan
    assert {node.label for node in plan.nodes} == {""}


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        pytest.param("FROM scratch\nCOPY a /", 2, id="stages of other platforms are other nodes"),
        pytest.param("FROM --platform=$BUILDPLATFORM scratch\nCOPY a /", 1, id="one image for all"),
        pytest.param(
            "FROM --platform=$BUILDPLATFORM scratch AS b\nRUN --mount=type=bind,target=/c x\n"
            "FROM scratch\nCOPY --from=b / /",
            4,
            id="a mounted context is shared",
        ),
        pytest.param("FROM scratch\nCOPY a /\nCOPY a /", 4, id="equal lines stay two nodes"),
    ],
)
def test_what_is_shared(text: str, nodes: int) -> None:
    assert len(plan_for(text, AMD, ARM).nodes) == nodes
