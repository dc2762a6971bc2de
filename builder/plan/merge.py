"""One plan for several platforms: the plans of all of them, with every node that they share in it once.

A node is shared if it is the same step at the same place of the recipe, for the same platform, on the same nodes: so a
stage that begins FROM --platform=$BUILDPLATFORM is made once, as far as it does not use an ARG of the target platform.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from pybuild.builder.plan.graph import BaseStep, Plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pybuild.builder.plan.graph import Node, PlannedStage
    from pybuild.store.formats.platform import Platform

    _NodeKey: TypeAlias = tuple[object, ...]


def merged(plans: Sequence[tuple[Platform, Plan]]) -> Plan:
    """One plan with the images of all plans, in their order. Each plan comes with the platform that it is for."""
    if len(plans) == 1:
        return plans[0][1]
    nodes: list[Node] = []
    known: dict[_NodeKey, int] = {}
    targets: list[list[Platform]] = []  # of each node: the platforms whose images need it
    images = []
    for platform, plan in plans:
        ids: dict[int | None, int | None] = {None: None}
        for node in plan.nodes:
            moved = replace(node, parent=ids[node.parent], sources=tuple(ids[source] for source in node.sources))
            id = known.setdefault(_key(moved), len(nodes))
            if id == len(nodes):
                nodes.append(replace(moved, id=id))
                targets.append([])
            targets[id].append(platform)
            ids[node.id] = id
        images.append(_moved(plan.image, ids))
    labelled = (replace(node, label=_label(node, targets[node.id])) for node in nodes)
    first = plans[0][1]
    return Plan(tuple(labelled), {first.target: images[0]}, first.target, tuple(images[1:]))


def _key(node: Node) -> _NodeKey:
    step: object = node.step
    if isinstance(step, BaseStep):
        step = step.image.manifest_digest
    place = node.stage, node.number, node.span, node.text, node.fresh
    return step, node.parent, node.sources, node.platform, place


def _moved(stage: PlannedStage, ids: Mapping[int | None, int | None]) -> PlannedStage:
    history = tuple(replace(line, node=ids[line.node]) for line in stage.history)
    return replace(stage, node=ids[stage.node], history=history)


def _label(node: Node, targets: Sequence[Platform]) -> str:
    """The platform of a node as BuildKit shows it: `linux/amd64->arm64` for what runs on one and serves only the other."""
    platform, target = node.platform, targets[0]
    if len(targets) > 1 or target.matches(platform):
        return str(platform)
    shown = str(target)
    return f"{platform}->{shown.partition('/')[2] if target.os == platform.os else shown}"
