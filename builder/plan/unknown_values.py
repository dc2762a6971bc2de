"""Variables whose values a check cannot know, because a base is missing or the line that sets them is wrong.

A build never has such variables: it stops at the first mistake, and fetches missing bases.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from pybuild.builder.errors import PlanError
from pybuild.parser import Arg, Env

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from pybuild.builder.plan.planner import Mistake
    from pybuild.builder.plan.replaced_words import StateWords
    from pybuild.builder.plan.resolve import Resolved, ResolvedStage
    from pybuild.parser import Instruction, RecordingScope, Word

# Values that an unknown variable could have. A mistake that is the same with all of them does not depend on the variable.
_STAND_INS = ("x", "/x", "1", "")


class UnknownValues:
    """Follows the variables of each stage. `missing` are the indexes of the stages whose base is not known."""

    def __init__(self, resolved: Resolved, build_args: Mapping[str, str], missing: Collection[int]) -> None:
        self._stages = resolved.stages
        self._global_args = resolved.global_args
        self._build_args = build_args
        self._missing = frozenset(missing)
        self._spoiled: dict[int, set[str]] = {}  # by stage: names that are set, to a value that is not known

    def base_is_missing(self, stage: ResolvedStage) -> bool:
        """Whether the environment of the stage's base is not known."""
        while stage.parent is not None and stage.stage.index not in self._missing:
            stage = self._stages[stage.parent]
        return stage.stage.index in self._missing

    def in_words(self, stage: ResolvedStage, words: Iterable[Word], at: StateWords) -> tuple[str, ...]:
        """The unknown variables that words use, in order."""
        if not self._missing and not self._spoiled:
            return ()
        return self._unknown(stage, at.variables_in(words))

    def in_instruction(self, stage: ResolvedStage, instruction: Instruction, at: StateWords) -> tuple[str, ...]:
        """The unknown variables that an instruction uses, in order."""
        if not self._missing and not self._spoiled:
            return ()
        return self._unknown(stage, at.variables_of(instruction))

    def take(self, stage: ResolvedStage, instruction: Instruction, at: StateWords) -> None:
        """Follow the variables that an instruction sets; `at` is the place before it."""
        if not self._missing and not self._spoiled:
            return
        match instruction:
            case Env(pairs=pairs):
                unknown = [bool(self.in_words(stage, [value], at)) for _, value in pairs]
                for (word, _), is_unknown in zip(pairs, unknown, strict=True):
                    with suppress(PlanError):
                        self._set(stage, at.expand(word), unknown=is_unknown)
            case Arg(items=items):
                for item in items:
                    if item.name in self._build_args:
                        self._set(stage, item.name, unknown=False)
                    elif item.default is not None:
                        is_unknown = bool(self.in_words(stage, [item.default], at))
                        self._set(stage, item.name, unknown=is_unknown)
                    elif self._global_args.get(item.name) is not None:
                        self._set(stage, item.name, unknown=False)
            case _:
                pass

    def spoil(self, mistake: Mistake) -> None:
        """After a mistake in an instruction, the variables that it would have set are unknown."""
        match mistake.instruction:
            case Env(pairs=pairs):
                names = [word.text.strip("\"'") for word, _ in pairs]
            case Arg(items=items):
                names = [item.name for item in items]
            case _:
                names = []
        for name in names:
            self._set(mistake.stage, name, unknown=True)

    def _set(self, stage: ResolvedStage, name: str, *, unknown: bool) -> None:
        spoiled = self._spoiled_of(stage)
        if unknown:
            spoiled.add(name)
        else:
            spoiled.discard(name)

    def _spoiled_of(self, stage: ResolvedStage) -> set[str]:
        index = stage.stage.index
        if index not in self._spoiled:
            parent = stage.parent
            self._spoiled[index] = set() if parent is None else set(self._spoiled_of(self._stages[parent]))
        return self._spoiled[index]

    def _unknown(self, stage: ResolvedStage, used: RecordingScope) -> tuple[str, ...]:
        spoiled = self._spoiled_of(stage)
        names = [name for name in used.found if name in spoiled]
        missing = self.base_is_missing(stage)
        return tuple(names + [name for name in used.missing if missing or name in spoiled])


def depends_on(mistake: Mistake, names: Collection[str]) -> bool:
    """Whether a mistake goes away, or changes, if these variables have other values."""
    wrong = [mistake.again(dict.fromkeys(names, value)) for value in _STAND_INS]
    return bool(names) and not all(_is_same(error, mistake.error) for error in wrong)


def _is_same(error: PlanError | None, other: PlanError) -> bool:
    return error is not None and (str(error), error.span) == (str(other), other.span)
