"""The instructions that only change the image's config: one function for each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias, assert_never

from pybuild.builder.errors import PlanError
from pybuild.builder.plan.history import command_list, healthcheck_line
from pybuild.builder.plan.scope import StateChange
from pybuild.parser import (
    Cmd,
    Entrypoint,
    ExecForm,
    ExpansionError,
    Expose,
    Healthcheck,
    Label,
    Maintainer,
    Onbuild,
    PortError,
    Shell,
    ShellForm,
    Stopsignal,
    User,
    Volume,
    expand_words,
    parse_ports,
    valid_signal,
)

if TYPE_CHECKING:
    from pybuild.builder.plan.scope import Scope
    from pybuild.store.formats.bounded_json import Json
    from pybuild.store.formats.oci_config import ExecConfig

ConfigInstruction: TypeAlias = (
    Label | User | Cmd | Entrypoint | Expose | Volume | Shell | Stopsignal | Healthcheck | Maintainer | Onbuild
)


def plan_config(instruction: ConfigInstruction, scope: Scope) -> StateChange:
    """The state after an instruction, and its line of history. Raises PlanError."""
    match instruction:
        case Label():
            return _label(instruction, scope)
        case User():
            return _user(instruction, scope)
        case Cmd():
            return _cmd(instruction, scope)
        case Entrypoint():
            return _entrypoint(instruction, scope)
        case Expose():
            return _expose(instruction, scope)
        case Volume():
            return _volume(instruction, scope)
        case Shell(argv=argv):
            config = replace(scope.state.config, shell=argv)
            return _with_config(scope, config, f"SHELL [{' '.join(argv)}]")
        case Stopsignal():
            return _stopsignal(instruction, scope)
        case Healthcheck():
            return _healthcheck(instruction, scope)
        case Maintainer(name=name):
            return StateChange(replace(scope.state, author=name), f"MAINTAINER {name}")
        case Onbuild(trigger=trigger):
            config = scope.state.config
            config = replace(config, on_build=(*config.on_build, trigger))
            return _with_config(scope, config, None)
        case _:
            assert_never(instruction)


def _with_config(scope: Scope, config: ExecConfig, history: str | None) -> StateChange:
    return StateChange(replace(scope.state, config=config), history)


def _label(instruction: Label, scope: Scope) -> StateChange:
    pairs = scope.expand_pairs(instruction.pairs)
    config = scope.state.config
    config = replace(config, labels={**config.labels, **dict(pairs)})
    return _with_config(scope, config, "LABEL " + " ".join(f"{name}={value}" for name, value in pairs))


def _user(instruction: User, scope: Scope) -> StateChange:
    user = scope.expand(instruction.user)
    return _with_config(scope, replace(scope.state.config, user=user), f"USER {user}")


def _cmd(instruction: Cmd, scope: Scope) -> StateChange:
    argv = scope.argv(instruction.command)
    config = replace(scope.state.config, cmd=argv, args_escaped=True)
    return StateChange(replace(scope.state, config=config, has_own_cmd=True), f"CMD {command_list(argv)}")


def _entrypoint(instruction: Entrypoint, scope: Scope) -> StateChange:
    """An ENTRYPOINT removes the CMD of the base, but not one that this stage has set."""
    argv = scope.argv(instruction.command)
    cmd = scope.state.config.cmd if scope.state.has_own_cmd else None
    config = replace(scope.state.config, entrypoint=argv, cmd=cmd)
    return _with_config(scope, config, f"ENTRYPOINT {command_list(argv)}")


def _expose(instruction: Expose, scope: Scope) -> StateChange:
    words: list[str] = []
    for word in instruction.ports:
        try:
            expanded = expand_words(word.text, scope.state.scope, escape=scope.escape)
        except ExpansionError as error:
            raise PlanError(error.message, span=word.span, hint=error.hint) from None
        words += (scope.budget.expansion(port, word.span) for port in expanded)
    try:
        ports = parse_ports(words)
    except PortError as error:
        raise PlanError(str(error), span=instruction.span, hint=error.hint) from None
    config = scope.state.config
    config = replace(config, exposed_ports=tuple(sorted({*config.exposed_ports, *ports})))
    return _with_config(scope, config, f"EXPOSE [{' '.join(ports)}]")


def _volume(instruction: Volume, scope: Scope) -> StateChange:
    volumes = [scope.expand(word) for word in instruction.paths]
    if not all(volume.strip() for volume in volumes):
        raise PlanError("VOLUME: a path is empty", span=instruction.span)
    config = scope.state.config
    config = replace(config, volumes=tuple(sorted({*config.volumes, *volumes})))
    return _with_config(scope, config, f"VOLUME [{' '.join(volumes)}]")


def _stopsignal(instruction: Stopsignal, scope: Scope) -> StateChange:
    word = instruction.signal
    signal = scope.expand(word)
    if not valid_signal(signal):
        raise PlanError(
            f"STOPSIGNAL {signal}: no such signal", span=word.span, hint="use a name such as SIGTERM, or a number"
        )
    return _with_config(scope, replace(scope.state.config, stop_signal=signal), f"STOPSIGNAL {signal}")


def _healthcheck(instruction: Healthcheck, scope: Scope) -> StateChange:
    match instruction.command:
        case None:
            test: tuple[str, ...] = ("NONE",)
        case ExecForm(argv=argv):
            test = ("CMD", *argv)
        case ShellForm(text=text):
            test = ("CMD-SHELL", text)
        case _:
            assert_never(instruction.command)
    durations = {
        "Interval": instruction.interval or 0,
        "Timeout": instruction.timeout or 0,
        "StartPeriod": instruction.start_period or 0,
        "StartInterval": instruction.start_interval or 0,
    }
    retries = instruction.retries or 0
    fields: dict[str, Json] = {"Test": list(test), **durations, "Retries": retries}
    healthcheck: Json = {name: value for name, value in fields.items() if value}
    config = replace(scope.state.config, healthcheck=healthcheck)
    return _with_config(scope, config, healthcheck_line(test, durations, retries))
