"""Rules about names and values, and about deprecated forms."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pybuild.parser.instructions import Arg, Env, Label, Maintainer
from pybuild.values.pattern import pattern

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.parser.buildfile import Buildfile
    from pybuild.values.source import Span

_SECRET = pattern(r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE)
_NO_SECRET = pattern(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)


def sounds_secret(name: str) -> bool:
    """Whether the name of a variable sounds like that of a secret."""
    return _SECRET.search(name) is not None and _NO_SECRET.search(name) is None


def maintainer_deprecated(buildfile: Buildfile) -> Iterator[tuple[str, Span]]:
    """A stage has a MAINTAINER."""
    for stage in buildfile.stages:
        for instruction in stage.instructions:
            if isinstance(instruction, Maintainer):
                yield "Maintainer instruction is deprecated in favor of using label", instruction.span


def legacy_key_value_format(buildfile: Buildfile) -> Iterator[tuple[str, Span]]:
    """ENV or LABEL has the form `ENV name value`, without an equals sign."""
    for stage in buildfile.stages:
        for instruction in stage.instructions:
            if isinstance(instruction, Env | Label) and _is_legacy(instruction):
                keyword = instruction.keyword
                yield (
                    f'"{keyword} key=value" should be used instead of legacy "{keyword} key value" format',
                    instruction.span,
                )


def _is_legacy(instruction: Env | Label) -> bool:
    name = instruction.pairs[0][0].text
    rest = instruction.text[len(instruction.keyword) :].lstrip().removeprefix("-- ").lstrip()
    return not rest.startswith(name + "=")


def secrets_used_in_arg_or_env(buildfile: Buildfile) -> Iterator[tuple[str, Span]]:
    """The name of an ARG or ENV sounds like a secret; its value is in the history and config of the image."""
    for stage in buildfile.stages:
        for instruction in stage.instructions:
            match instruction:
                case Arg(items=items):
                    names = [item.name for item in items]
                case Env(pairs=pairs):
                    names = [name.text.strip("\"'") for name, _ in pairs]
                case _:
                    continue
            for name in names:
                if sounds_secret(name):
                    yield (
                        f'Do not use ARG or ENV instructions for sensitive data ({instruction.keyword} "{name}")',
                        instruction.span,
                    )
