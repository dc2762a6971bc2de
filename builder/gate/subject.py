"""The image that is judged, and findings about it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.builder.events import RuleBroken
from pybuild.builder.gate.command_secrets import without_secrets
from pybuild.builder.plan.history import instruction_of
from pybuild.store.formats.oci_config import normalise_history

if TYPE_CHECKING:
    from pybuild.store.formats.oci_config import ExecConfig
    from pybuild.store.importing.archived import ImageLayer, ReadableImage

_SHORT = 60  # characters of an instruction in a message


class Subject:
    """An image with the instruction that made each layer; "" if the history does not tell it."""

    def __init__(self, image: ReadableImage) -> None:
        self.image = image
        self.layers: tuple[ImageLayer, ...] = image.layers
        self.config: ExecConfig = image.config.config
        lines = normalise_history(image.config).history
        self.history = [instruction_of(line.created_by) for line in lines]
        made = zip(self.history, lines, strict=True)
        self._instructions = [
            without_secrets(text) for text, line in made if not line.empty_layer
        ]  # the lowest layer first

    def finding(self, rule: str, text: str, path: bytes | None, layer: int, size: int | None = None) -> RuleBroken:
        """A finding in a layer, by its number from 0, the lowest. The path is relative to the root."""
        return RuleBroken(
            rule,
            text,
            None if path is None else "/" + os.fsdecode(path),
            str(self.layers[layer].diff_id),
            self._instructions[layer] or None,
            size,
        )

    def named_layer(self, number: int) -> str:
        """A layer in a message: its instruction, or its number from 1."""
        text = self._instructions[number]
        if not text:
            return f"layer {number + 1}"
        return f"`{text if len(text) <= _SHORT else text[: _SHORT - 1] + '…'}`"
