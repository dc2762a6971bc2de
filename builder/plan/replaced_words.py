"""The words of an instruction in which variables are replaced, and the variables that they use."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from pybuild.parser import (
    Add,
    Arg,
    Copy,
    Env,
    ExpansionError,
    Expose,
    Label,
    RecordingScope,
    Run,
    Stopsignal,
    User,
    Volume,
    Workdir,
    expand,
    expand_heredoc,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pybuild.builder.plan.stage_state import StageState
    from pybuild.parser import Instruction, Word


def replaced_words(instruction: Instruction) -> Iterator[Word]:
    """The words of an instruction in which variables are replaced."""
    match instruction:
        case Copy() | Add():
            flags = (
                instruction.chown,
                instruction.chmod,
                instruction.checksum if isinstance(instruction, Add) else None,
            )
            yield from (*instruction.sources, instruction.dest, *(word for word in flags if word is not None))
        case Env(pairs=pairs) | Label(pairs=pairs):
            yield from (word for pair in pairs for word in pair)
        case Arg(items=items):
            yield from (item.default for item in items if item.default is not None)
        case Run(mounts=mounts):
            # `from` has the variables of FROM, not those of the stage.
            yield from (word for mount in mounts for name, word in mount.options if name != "from")
        case Expose(ports=words) | Volume(paths=words):
            yield from words
        case Workdir(path=word) | User(user=word) | Stopsignal(signal=word):
            yield word
        case _:
            return


def variables_in(words: Iterable[Word], state: StageState, escape: str) -> RecordingScope:
    """The variables that words look up, as a scope that recorded them. A wrong word counts up to its mistake."""
    texts = [word.text for word in words if "$" in word.text]
    recorded = RecordingScope(state.scope if texts else {})
    for text in texts:
        with suppress(ExpansionError):  # the planner reports it
            expand(text, recorded, escape=escape)
    return recorded


def variables_of(instruction: Instruction, state: StageState, escape: str) -> RecordingScope:
    """The variables that an instruction looks up, in its words and heredocs. It sees them as they were before it."""
    heredocs = instruction.heredocs if isinstance(instruction, Copy | Add) else ()
    texts = [heredoc.content for heredoc in heredocs if heredoc.expand and "$" in heredoc.content]
    recorded = variables_in(replaced_words(instruction), state, escape)
    if texts and not recorded:
        recorded.update(state.scope)
    for text in texts:
        with suppress(ExpansionError):
            expand_heredoc(text, recorded)
    return recorded
