"""RUN: what is executed, with which environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import PlanError
from builder.history import run_line
from builder.plan import RunStep
from builder.scope import Planned

if TYPE_CHECKING:
    from builder.scope import Scope
    from parser import Run

_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")


def plan_run(instruction: Run, scope: Scope) -> Planned:
    """Raises PlanError."""
    state = scope.state
    argv = scope.argv(instruction.command)
    if not argv:
        raise PlanError("RUN: the command is empty", span=instruction.span)
    cwd, user = state.config.working_dir or "/", state.config.user
    step = RunStep(argv, state.run_env, cwd, user, scope.options.network, _proxy(scope))
    return Planned(step, (), run_line(state.run_args, argv))


def _proxy(scope: Scope) -> tuple[str, ...]:
    """The predefined ARGs of the build that the recipe says nothing about: RUN sees them without a declaration.

    Programs differ in which case they look at, so both are set.
    """
    found: dict[str, str] = {}
    for name, value in scope.options.build_args.items():
        if name.lower() in _PROXIES and value:
            found |= {name.lower(): value, name.upper(): value}
    known = scope.state.scope
    return tuple(f"{name}={found[name]}" for name in sorted(found) if name not in known)
