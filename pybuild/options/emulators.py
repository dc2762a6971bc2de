"""The values of --emulator: which program runs the programs of another processor."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from pybuild.options.arguments import name_and_value

if TYPE_CHECKING:
    from collections.abc import Iterable

VARIABLE = "PYBUILD_EMULATORS"

EMULATOR_HELP = (
    "The static program that runs programs of the processor ARCH (arm64, riscv64, ...) in RUN steps, instead of an installed"
    f" qemu. Can be repeated. [{VARIABLE}]"
)


def parse_emulators(texts: Iterable[str]) -> dict[str, str]:
    """The paths by Go's names of the processors, also those of the environment. Raises click.UsageError."""
    found = {}
    for source, text in (
        *((VARIABLE, text) for text in os.environ.get(VARIABLE, "").split()),
        *(("--emulator", text) for text in texts),
    ):
        from pybuild.builder.host.processors import PROCESSORS, processor_name  # a local import: most builds name none

        name, path = name_and_value(text, source)
        architecture = processor_name(name)
        if architecture is None:
            raise click.UsageError(f"{source} {text}: unknown processor {name!r}; known are {', '.join(PROCESSORS)}")
        if not path.startswith("/"):
            raise click.UsageError(f"{source} {text}: expected an absolute path")
        found[architecture] = path
    return found
