"""Limits on the expanded text of a recipe: without them, a few lines that double a variable would fill the memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pybuild.builder.errors import PlanError

if TYPE_CHECKING:
    from pybuild.parser import Span

EXPANSIONS_LIMIT = 16 << 20  # characters of all expanded words and heredocs of a recipe
ENVIRONMENTS_LIMIT = 256 << 20  # characters of the environments of all RUNs of a recipe; each RUN has its own copy


@dataclass(slots=True)
class Budget:
    """The number of characters counted against each limit so far. Raises PlanError at the word that exceeds a limit."""

    expanded: int = 0
    environments: int = 0

    def expansion(self, text: str, span: Span) -> str:
        """Count the result of an expansion, and return it."""
        self.expanded += len(text)
        if self.expanded > EXPANSIONS_LIMIT:
            raise PlanError(
                f"the expanded words of the recipe exceed the limit of {EXPANSIONS_LIMIT} characters",
                span=span,
                hint="look for a variable that contains itself several times",
            )
        return text

    def environment(self, variables: tuple[str, ...], span: Span) -> tuple[str, ...]:
        """Count the environment of a RUN, and return it."""
        self.environments += sum(map(len, variables))
        if self.environments > ENVIRONMENTS_LIMIT:
            raise PlanError(
                f"the environments of all RUNs exceed the limit of {ENVIRONMENTS_LIMIT} characters", span=span
            )
        return variables
