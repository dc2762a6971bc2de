"""The mounts of a RUN: what --mount says as values of the plan, and what the sandbox gets of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias, assert_never

from builder.errors import PlanError
from parser import BindMount, CacheMount, ParseError, SecretMount, SshMount, TmpfsMount, read_mount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.handed import Handed
    from builder.sandbox import mounts as sandbox
    from builder.scope import Scope
    from parser import Mount, Word

SCRIPTS = "/dev/pipes"
AGENTS = "/run/buildkit/ssh_agent"


@dataclass(frozen=True, slots=True)
class ScriptMount:
    """A heredoc that is a program, as a file of its name in a directory that can only be read."""

    target: str
    name: str
    content: str


# Those of the parser have had their words expanded and their target made absolute.
StepMount: TypeAlias = TmpfsMount | SecretMount | SshMount | ScriptMount


@dataclass(frozen=True, slots=True)
class MountPoint:
    """Where something will be mounted, by its absolute name in the image."""

    target: str
    directory: bool


def plan_mounts(mounts: Sequence[Mount], scope: Scope) -> list[StepMount]:
    """The values of all --mount of a RUN. Raises PlanError at the option that is wrong."""
    found: list[StepMount] = []
    for mount in mounts:
        value = _plan_mount(mount, scope)
        if isinstance(value, SshMount) and value.target is None:
            number = sum(isinstance(before, SshMount) for before in found)
            value = replace(value, target=f"{AGENTS}.{number}")
        found.append(value)
    return found


def _plan_mount(mount: Mount, scope: Scope) -> StepMount:

    def expand(word: Word) -> str:
        return word.text if word is mount.option("from") else scope.expand(word)

    try:
        value = read_mount(mount, expand)
    except ParseError as error:
        raise PlanError(error.message, span=error.span, hint=error.hint) from None
    match value:
        case TmpfsMount(target=target):
            return replace(value, target=_target(mount, scope, target))
        case SecretMount(target=target) | SshMount(target=target):
            return value if target is None else replace(value, target=_target(mount, scope, target))
        case BindMount() | CacheMount():
            raise AssertionError("refused before")
        case _:
            assert_never(value)


def _target(mount: Mount, scope: Scope, target: str) -> str:
    path = scope.state.absolute(target)
    if path == "/":
        word = mount.option("target")
        raise PlanError(
            "the root directory cannot be the target of a mount", span=mount.span if word is None else word.span
        )
    return path


def agent_variable(mounts: Sequence[StepMount]) -> str | None:
    """Where programs look for the agent: at the first one, whether it was given or not."""
    return next((mount.target for mount in mounts if isinstance(mount, SshMount)), None)


def mount_points(mounts: Sequence[StepMount]) -> tuple[MountPoint, ...]:
    """Where these mounts go, each as it is written."""
    found = []
    for mount in mounts:
        if mount.target is not None:
            found.append(MountPoint(mount.target, directory=not isinstance(mount, SecretMount | SshMount)))
    return tuple(found)


def sandbox_mounts(
    mounts: Sequence[StepMount], targets: Sequence[str], handed: Handed
) -> tuple[sandbox.StepMount, ...]:
    """The mounts as the sandbox makes them, one in which another lies before that.

    `targets` belong to the mount points, without links; all secrets and agents among the mounts are there.
    """
    placed = [mount for mount in mounts if mount.target is not None]
    made = [_sandbox_mount(mount, target, handed) for mount, target in zip(placed, targets, strict=True)]
    return tuple(sorted(made, key=lambda mount: mount.target.split("/")))


def _sandbox_mount(mount: StepMount, target: str, handed: Handed) -> sandbox.StepMount:
    from builder.sandbox import mounts as sandbox  # only where something runs

    match mount:
        case TmpfsMount():
            return sandbox.Tmpfs(target, mount.size, mount.read_only)
        case SecretMount(mode=mode, uid=uid, gid=gid):
            secret = handed.secret(mount.id)
            assert secret is not None
            return sandbox.Secret(target, secret.offset, secret.size, mode, uid, gid)
        case SshMount(mode=mode, uid=uid, gid=gid):
            agent = handed.agent(mount.id)
            assert agent is not None
            return sandbox.Agent(target, agent, mode, uid, gid)
        case ScriptMount():
            return sandbox.Program(target, mount.name, mount.content)
        case _:
            assert_never(mount)
