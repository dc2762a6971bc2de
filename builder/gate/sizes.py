"""The rules about how large an image is."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import TYPE_CHECKING

from pybuild.builder.events import RuleBroken
from pybuild.store.layers.sizes import content_size
from pybuild.store.layers.view import View
from pybuild.store.layers.waste import hidden_files, repeated_files
from pybuild.values.sizes import human_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pybuild.builder.gate.rules import Allowances, ImageRules
    from pybuild.builder.gate.subject import Subject
    from pybuild.store.formats.toc import Toc

_SHOWN = 20  # things that are waste


def broken_sizes(subject: Subject, rules: ImageRules) -> Iterator[RuleBroken]:
    """What the manifest tells: the sizes and the number of layers."""
    layers = subject.layers
    total = sum(layer.size for layer in layers)
    if rules.max_size is not None and total > rules.max_size:
        text = f"the image has {human_size(total)}, {human_size(rules.max_size)} are allowed"
        largest = max(range(len(layers)), key=lambda number: layers[number].size)
        size = layers[largest].size
        yield subject.finding("max-size", f"{text}; its largest layer has {human_size(size)}", None, largest, total)
    if rules.max_layer_size is not None:
        for number, layer in enumerate(layers):
            if layer.size > rules.max_layer_size:
                text = f"a layer has {human_size(layer.size)}, {human_size(rules.max_layer_size)} are allowed"
                yield subject.finding("max-layer-size", text, None, number, layer.size)
    if rules.max_layers is not None and len(layers) > rules.max_layers:
        yield RuleBroken("max-layers", f"the image has {len(layers)} layers, {rules.max_layers} are allowed")


def broken_waste(
    subject: Subject, rules: ImageRules, tables: Sequence[Toc], allowed: Allowances
) -> Iterator[RuleBroken]:
    """max-waste: if there is too much of it, a finding for each of the largest pieces after one with the sum."""
    if rules.max_waste is None:
        return
    sums: defaultdict[tuple[bytes, str, int], int] = defaultdict(int)
    for hidden in hidden_files(tables):
        if hidden.size and not allowed.path("max-waste", hidden.path):
            how = f"{'deleted' if hidden.deleted else 'overwritten'} by {subject.named_layer(hidden.hidden_by)}"
            sums[hidden.cause, how, hidden.layer] += hidden.size
    view = View(tables[::-1])
    numbers = {id(toc): number for number, toc in enumerate(tables)}
    for twice in repeated_files(view):
        if not allowed.path("max-waste", twice.path) and (located := view.locate(twice.path)) is not None:
            same = f"with the content of /{os.fsdecode(twice.same_as)}"
            sums[twice.path, same, numbers[id(located[0])]] += twice.size
    wasted = sum(sums.values())
    total = sum(content_size(entry) for toc in tables for entry in toc)
    most = rules.max_waste.bytes_of(total)
    if wasted <= most:
        return
    share = f" ({rules.max_waste.number:g} % of {human_size(total)})" if rules.max_waste.is_percentage else ""
    text = f"{human_size(wasted)} of files are waste, {human_size(most)}{share} are allowed"
    yield RuleBroken("max-waste", text, size=wasted)
    ordered = sorted(sums.items(), key=lambda item: (-item[1], item[0][0]))
    for (path, how, number), size in ordered[:_SHOWN]:
        yield subject.finding("max-waste", f"{human_size(size)} {how}", path, number, size)
