"""The words of an instruction at its place in a stage: their values, and the nodes that its names refer to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from pybuild.builder.plan.resolve import expand_word
from pybuild.parser import ExecForm, ShellForm
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pybuild.builder.options import BuildOptions
    from pybuild.builder.plan.draft import StageNodes
    from pybuild.builder.plan.expansion_limit import Budget
    from pybuild.builder.plan.graph import Step
    from pybuild.builder.plan.stage_state import StageState
    from pybuild.parser import Command, Word


@frozen
class Scope:
    """The state of a stage before an instruction, and everything else that its words depend on."""

    state: StageState
    escape: str
    options: BuildOptions
    nodes: StageNodes
    budget: Budget

    def after(self, state: StageState) -> Scope:
        """The scope of the words that follow a change of the state."""
        return replace(self, state=state)

    def expand(self, word: Word) -> str:
        """A word with its variables replaced and its quotes removed. Raises PlanError."""
        # Without this a recipe of ENVs would take quadratic time: each scope is as large as what is set before it.
        variables = self.state.scope if "$" in word.text else {}
        return expand_word(word, variables, self.escape, self.budget)

    def expand_pairs(self, pairs: Iterable[tuple[Word, Word]]) -> list[tuple[str, str]]:
        """Names and values, as in ENV and LABEL. Raises PlanError."""
        return [(self.expand(name), self.expand(value)) for name, value in pairs]

    def expand_flag(self, word: Word | None) -> str | None:
        """The value of a flag. None if the flag is missing or its value expands to nothing. Raises PlanError."""
        return None if word is None else self.expand(word) or None

    def argv(self, command: Command) -> tuple[str, ...]:
        """A command as the list of words that the kernel executes."""
        match command:
            case ExecForm(argv=argv):
                return argv
            case ShellForm():
                return (*self.state.shell, command.script)
            case _:
                assert_never(command)


@frozen
class PlannedStep:
    """The plan of an instruction that makes a layer: its step, the nodes that it reads, its line of history."""

    step: Step
    sources: tuple[int | None, ...]
    history: str


@frozen
class StateChange:
    """The plan of an instruction that makes no layer: the state after it, and its line of history (None: it has none)."""

    state: StageState
    history: str | None
