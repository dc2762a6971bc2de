"""The words of an instruction in which variables are replaced, and the variables that they use."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from pybuild.builder.plan.resolve import expand_word
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
    from collections.abc import Iterable, Iterator, Mapping

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


class StateWords:
    """Expands words at one place of a stage. The variables are collected when a word first uses one."""

    def __init__(self, state: StageState, escape: str) -> None:
        self.escape = escape
        self._state = state

    @cached_property
    def scope(self) -> Mapping[str, str]:
        """The variables before the instruction."""
        return self._state.scope

    def expand(self, word: Word) -> str:
        """The value of a word. Raises PlanError."""
        return expand_word(word, self.scope if "$" in word.text else {}, self.escape)

    def variables_in(self, words: Iterable[Word]) -> RecordingScope:
        """The variables that words look up, as a scope that recorded them. A wrong word counts up to its mistake."""
        return self._looked_up([word.text for word in words if "$" in word.text], [])

    def variables_of(self, instruction: Instruction) -> RecordingScope:
        """The variables that an instruction looks up, in its words and heredocs."""
        heredocs = instruction.heredocs if isinstance(instruction, Copy | Add) else ()
        bodies = [heredoc.content for heredoc in heredocs if heredoc.expand and "$" in heredoc.content]
        return self._looked_up([word.text for word in replaced_words(instruction) if "$" in word.text], bodies)

    def _looked_up(self, texts: list[str], bodies: list[str]) -> RecordingScope:
        recorded = RecordingScope(self.scope if texts or bodies else {})
        for text in texts:
            with suppress(ExpansionError):  # the planner reports it
                expand(text, recorded, escape=self.escape)
        for body in bodies:
            with suppress(ExpansionError):
                expand_heredoc(body, recorded)
        return recorded
