"""Limits on the expanded text of a recipe: without them, a few lines that double a variable would fill the memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pybuild.builder.errors import PlanError
from pybuild.values.limits import ENVIRONMENT_CHARACTERS, EXPANDED_CHARACTERS

if TYPE_CHECKING:
    from pybuild.parser import Span


@dataclass(slots=True)
class Budget:
    """The number of characters counted against each limit so far. Raises PlanError at the word that exceeds a limit."""

    expanded: int = 0
    environments: int = 0

    def expansion(self, text: str, span: Span) -> str:
        """Count the result of an expansion, and return it."""
        self.expanded += len(text)
        if self.expanded > EXPANDED_CHARACTERS.value:
            raise EXPANDED_CHARACTERS.exceeded(
                PlanError,
                "the expanded words of the recipe exceed the limit of {}",
                span=span,
                hint="look for a variable that contains itself several times",
            )
        return text

    def environment(self, variables: tuple[str, ...], span: Span) -> tuple[str, ...]:
        """Count the environment of a RUN, and return it."""
        self.environments += sum(map(len, variables))
        if self.environments > ENVIRONMENT_CHARACTERS.value:
            raise ENVIRONMENT_CHARACTERS.exceeded(
                PlanError, "the environments of all RUNs exceed the limit of {}", span=span
            )
        return variables
