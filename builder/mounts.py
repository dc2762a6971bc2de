"""The mounts of a RUN: what --mount says as values of the plan, and what the sandbox gets of them."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias, assert_never

from builder.errors import PlanError
from parser import ParseError, TmpfsMount, read_mount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.sandbox import mounts as sandbox
    from builder.scope import Scope
    from parser import Mount, Word

SCRIPTS = "/dev/pipes"


@dataclass(frozen=True, slots=True)
class ScriptMount:
    """A heredoc that is a program, as a file of its name in a directory that can only be read."""

    target: str
    name: str
    content: str


# Those of the parser have had their words expanded and their target made absolute.
StepMount: TypeAlias = TmpfsMount | ScriptMount


@dataclass(frozen=True, slots=True)
class MountPoint:
    """Where something will be mounted, by its absolute name in the image."""

    target: str
    directory: bool


def plan_mount(mount: Mount, scope: Scope) -> StepMount:
    """The value of a --mount. Raises PlanError at the option that is wrong."""

    def expand(word: Word) -> str:
        return word.text if word is mount.option("from") else scope.expand(word)

    try:
        value = read_mount(mount, expand)
    except ParseError as error:
        raise PlanError(error.message, span=error.span, hint=error.hint) from None
    assert isinstance(value, TmpfsMount), "the others are refused before"
    return replace(value, target=_target(mount, scope, value.target))


def _target(mount: Mount, scope: Scope, target: str) -> str:
    path = scope.state.absolute(target)
    if path == "/":
        word = mount.option("target")
        raise PlanError(
            "the root directory cannot be the target of a mount", span=mount.span if word is None else word.span
        )
    return path


def mount_points(mounts: Sequence[StepMount]) -> tuple[MountPoint, ...]:
    """Where these mounts go, each as it is written."""
    return tuple(MountPoint(mount.target, directory=True) for mount in mounts)


def sandbox_mounts(mounts: Sequence[StepMount], targets: Sequence[str]) -> tuple[sandbox.StepMount, ...]:
    """The mounts as the sandbox makes them, one in which another lies before that. `targets` are those without links."""
    made = [_sandbox_mount(mount, target) for mount, target in zip(mounts, targets, strict=True)]
    return tuple(sorted(made, key=lambda mount: posixpath.normpath(mount.target).split("/")))


def _sandbox_mount(mount: StepMount, target: str) -> sandbox.StepMount:
    from builder.sandbox import mounts as sandbox  # only where something runs

    match mount:
        case TmpfsMount():
            return sandbox.Tmpfs(target, mount.size, mount.read_only)
        case ScriptMount():
            return sandbox.Program(target, mount.name, mount.content)
        case _:
            assert_never(mount)
