"""ARG and ENV: the variables that they give to the rest of their stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builder.plan.platforms import platform_args
from pybuild.builder.plan.scope import StateChange

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pybuild.builder.plan.scope import Scope
    from pybuild.parser import Arg, Env


def plan_arg(instruction: Arg, scope: Scope, global_args: Mapping[str, str | None]) -> StateChange:
    """The state after an ARG. `global_args` are the values of the ARGs before the first FROM. Raises PlanError."""
    build_args = scope.options.build_args
    platform = platform_args(scope.options)
    words = []
    for item in instruction.items:
        if item.name in build_args:
            value: str | None = build_args[item.name]
        elif item.default is not None:
            value = scope.expand(item.default)
        else:
            value = global_args.get(item.name, platform.get(item.name))
        state = scope.state
        # If no value is given, the ARG keeps the one that the stage inherited.
        state = state.with_arg(item.name, state.args.get(item.name) if value is None else value)
        scope = scope.after(state)
        words.append(item.name if value is None else f"{item.name}={value}")
    return StateChange(scope.state, "ARG " + " ".join(words))


def plan_env(instruction: Env, scope: Scope) -> StateChange:
    """The state after an ENV, whose values see the variables as they were before the line. Raises PlanError."""
    values = scope.expand_pairs(instruction.pairs)
    line = "ENV " + " ".join(f"{name}={value}" for name, value in values)
    return StateChange(scope.state.with_env(dict(values)), line)
