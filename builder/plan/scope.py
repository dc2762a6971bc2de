"""What the words of an instruction mean at its place in a stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, assert_never

from pybuild.builder.plan.resolve import expand_word
from pybuild.parser import ExecForm, ShellForm
from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.builder.options import BuildOptions
    from pybuild.builder.plan.expansion_limit import Budget
    from pybuild.builder.plan.graph import Step
    from pybuild.builder.plan.resolve import ContextFiles
    from pybuild.builder.plan.stage_state import StageState
    from pybuild.parser import Command, Span, Word


@frozen
class Files:
    """Files to mount: the node whose root filesystem holds them (None: nothing does), and their path in there."""

    node: int | None
    path: str


@frozen
class Scope:
    """The state before an instruction, and what its names lead to."""

    state: StageState
    escape: str
    options: BuildOptions
    source: Callable[[str, Span], int | None]  # what `from` says -> the node that holds it, None for nothing at all
    context: Callable[[str | None], ContextFiles | None]  # the same -> the context that it is; None is the main one
    files: Callable[[ContextFiles, str, Span], Files]  # a context and a path in it -> where that can be mounted from
    budget: Budget

    def expand(self, word: Word) -> str:
        """A word with its variables and without its quotes. Raises PlanError."""
        return expand_word(word, self.state.scope, self.escape, self.budget)

    def expand_flag(self, word: Word | None) -> str | None:
        """The same for the value of a flag; one whose variable is empty was not given."""
        return None if word is None else self.expand(word) or None

    def argv(self, command: Command) -> tuple[str, ...]:
        """A command as the list that is executed."""
        match command:
            case ExecForm(argv=argv):
                return argv
            case ShellForm():
                return (*self.state.shell, command.script)
            case _:
                assert_never(command)


@frozen
class PlannedStep:
    """What an instruction that makes a layer comes to: its step, the nodes that it reads, its line of history."""

    step: Step
    sources: tuple[int | None, ...]
    history: str
