"""Warnings about words that are empty once their variables are replaced. The recipe builds, but seldom as it was meant.

BuildKit has no such rules. Each names what the empty word means in its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.parser import Add, Copy, Env, Label, User, Workdir

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.builder.plan.replaced_words import StateWords
    from pybuild.builder.plan.stage_state import StageState
    from pybuild.parser import Instruction, Word


def empty_words(instruction: Instruction, state: StageState, at: StateWords) -> Iterator[tuple[str, str, Word]]:
    """The rule, the message and the word of each empty word. Raises PlanError for a word that cannot be expanded."""

    def is_empty(word: Word) -> bool:
        return not at.expand(word)

    keyword = instruction.keyword
    match instruction:
        case Copy() | Add():
            everything = (
                "everything in it" if isinstance(instruction, Copy) and instruction.from_ else "the whole context"
            )
            for word in filter(is_empty, instruction.sources):
                yield "EmptySource", f"{keyword}: a source is empty, which means {everything}", word
            if is_empty(instruction.dest):
                text = f"{keyword}: the destination is empty, which means the working directory {state.absolute('')}"
                yield "EmptyDestination", text, instruction.dest
        case User(user=word) if is_empty(word):
            yield "EmptyUser", "USER: the name is empty, which means root", word
        case Workdir(path=word) if is_empty(word):
            text = f"WORKDIR: the path is empty, so the working directory is still {state.absolute('')}"
            yield "EmptyWorkdir", text, word
        case Env(pairs=pairs) | Label(pairs=pairs):
            then = ": a RUN after it cannot start" if isinstance(instruction, Env) else ""
            for word, _ in pairs:
                if is_empty(word):
                    yield "EmptyName", f"{keyword}: a name is empty{then}", word
        case _:
            return
