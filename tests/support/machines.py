"""Several machines that build one recipe: each has an empty store, and a checkout with file times of its own."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from tests.support.cli import Done, Pybuild, write_context

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RECIPE = """\
FROM {base} AS builder
WORKDIR /w
COPY src/ src/
RUN --mount=type=bind,source=settings,target=/settings cat /settings src/a src/sub/b > out
ARG FLAVOUR=plain
RUN echo $FLAVOUR >> out
FROM {base}
COPY passwd /etc/passwd
COPY --chown=www-data settings /srv/settings
COPY --from=builder /w/out /out
RUN wc -l /out > /lines
ENV A=1
"""
FILES = {
    "src__a": "a\n",
    "src__sub__b": "b\n",
    "settings": "s\n",
    "passwd": "root:x:0:0::/:/bin/sh\nwww-data:x:33:33::/:/bin/sh\n",
}
STEPS = 8  # that leave a layer, with the bind mount's
_times = count(1_500_000_000, 1000)


@dataclass(frozen=True)
class Machine:
    """A machine with its store and its checkout."""

    pybuild: Pybuild
    context: Path

    def build(self, *options: str) -> Done:
        return self.pybuild("--progress=json", "--network=none", *options, self.context)

    def ran(self, done: Done) -> list[str]:
        """The steps that a build ran."""
        return [instruction for instruction, cached in done.finished().items() if not cached]


def checkout(directory: Path, base: str, recipe: str = RECIPE, **files: str) -> Path:
    """A checkout of the recipe; all of its files have times that no other checkout has."""
    if directory.exists():
        shutil.rmtree(directory)
    write_context(directory, recipe.format(base=base), **{**FILES, **files})
    for path in sorted(directory.rglob("*")):
        moment = next(_times)
        os.utime(path, (moment, moment))
    return directory


def fetched_layers(done: Done) -> list[Mapping[str, object]]:
    """The events that tell of layers that came in."""
    return [
        event for event in done.events if event["event"] == "transfer" and event["kind"] == "fetched"
    ]
