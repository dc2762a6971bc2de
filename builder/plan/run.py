"""RUN: the command, and its environment, mounts, network and privileges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builder.errors import PlanError
from pybuild.builder.options import Entitlement, Network
from pybuild.builder.plan.graph import RunStep, ScriptMount
from pybuild.builder.plan.history import run_line
from pybuild.builder.plan.mounts import SCRIPT_DIRECTORY, agent_variable, plan_mounts
from pybuild.builder.plan.scope import PlannedStep
from pybuild.parser import ShellForm

if TYPE_CHECKING:
    from pybuild.builder.plan.scope import Scope
    from pybuild.parser import Run

_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")


def plan_run(instruction: Run, scope: Scope) -> PlannedStep:
    """The step of a RUN. Raises PlanError."""
    state = scope.state
    argv = scope.argv(instruction.command)
    if not argv:
        raise PlanError("RUN: the command is empty", span=instruction.span)
    mounts, sources = plan_mounts(instruction.mounts, scope)
    variables = state.run_env
    if "" in state.env:
        raise PlanError(
            "RUN: the environment has a variable without a name",
            span=instruction.span,
            hint="the name in an ENV above, or in the base image, is empty: check that its variables have a value",
        )
    agent = agent_variable(mounts)
    if agent is not None and not any(pair.startswith("SSH_AUTH_SOCK=") for pair in variables):
        variables += (f"SSH_AUTH_SOCK={agent}",)
    program = instruction.command.file if isinstance(instruction.command, ShellForm) else None
    if program is not None:
        mounts.append(ScriptMount(SCRIPT_DIRECTORY, program.name, program.content))
        argv = (*state.shell, f"{SCRIPT_DIRECTORY}/{program.name}")
    step = RunStep(
        argv=argv,
        variables=scope.budget.environment(variables, instruction.span),
        cwd=state.absolute(""),
        user=state.config.user,
        network=_network(instruction, scope),
        proxy=_proxy(scope),
        mounts=tuple(mounts),
        insecure=_insecure(instruction, scope),
        hostname=scope.options.hostname,
        hosts=tuple(sorted(name for name, _ in scope.options.hosts)),
        args=tuple(name for name in state.args if name not in state.env),
    )
    return PlannedStep(step, sources, run_line(state.run_args, argv))


def _network(instruction: Run, scope: Scope) -> Network:
    if instruction.network in (None, "default"):
        return scope.options.network
    network = Network(instruction.network)
    if network is Network.HOST and scope.options.network is not Network.HOST:
        _require_entitlement(Entitlement.NETWORK_HOST, "network", instruction, scope)
    return network


def _insecure(instruction: Run, scope: Scope) -> bool:
    insecure = instruction.security == "insecure"
    if insecure:
        _require_entitlement(Entitlement.SECURITY_INSECURE, "security", instruction, scope)
    return insecure


def _require_entitlement(entitlement: Entitlement, flag: str, instruction: Run, scope: Scope) -> None:
    """Raise PlanError at the flag unless the user allows it with --allow."""
    if entitlement in scope.options.allow:
        return
    span = next((found.span for found in instruction.flags if found.name == flag), instruction.span)
    raise PlanError(
        f"RUN --{flag} asks for {entitlement.value}, which is not allowed",
        span=span,
        hint=f"if you trust this recipe: --allow {entitlement.value}",
    )


def _proxy(scope: Scope) -> tuple[str, ...]:
    """The proxy build arguments as `name=value`: RUN sees them without an ARG, except names that the recipe sets.

    Each is set in lower and in upper case, because programs differ in which one they read.
    """
    found: dict[str, str] = {}
    for name, value in scope.options.build_args.items():
        if name.lower() in _PROXIES and value:
            found |= {name.lower(): value, name.upper(): value}
    known = scope.state.scope
    return tuple(f"{name}={found[name]}" for name in sorted(found) if name not in known)
