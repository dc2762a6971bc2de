"""How much text a recipe may come to: a few lines that double a variable would otherwise fill the memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pybuild.builder.errors import PlanError

if TYPE_CHECKING:
    from pybuild.parser import Span

EXPANSIONS_LIMIT = 16 << 20  # characters of all expanded words and heredocs of a recipe
ENVIRONMENTS_LIMIT = 256 << 20  # characters of the environments of all its RUNs, each of which has a copy


@dataclass(slots=True)
class Budget:
    """What has been spent of both limits. Raises PlanError at the place where one is passed."""

    expanded: int = 0
    environments: int = 0

    def expansion(self, text: str, span: Span) -> str:
        """Take the result of an expansion into account, and return it."""
        self.expanded += len(text)
        if self.expanded > EXPANSIONS_LIMIT:
            raise PlanError(
                f"the words of the recipe expand to more than the limit of {EXPANSIONS_LIMIT} characters",
                span=span,
                hint="a variable that holds itself several times?",
            )
        return text

    def environment(self, variables: tuple[str, ...], span: Span) -> tuple[str, ...]:
        """The same for the environment of a RUN."""
        self.environments += sum(map(len, variables))
        if self.environments > ENVIRONMENTS_LIMIT:
            raise PlanError(
                f"the environments of all RUNs hold more than the limit of {ENVIRONMENTS_LIMIT} characters", span=span
            )
        return variables
