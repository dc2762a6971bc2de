"""The --mount flags of a RUN as values of the plan."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from pybuild.builder.errors import PlanError
from pybuild.builder.plan.draft import NodePath
from pybuild.builder.plan.graph import FilesMount, PlannedCacheMount
from pybuild.builder.plan.windows import in_layer
from pybuild.parser import BindMount, CacheMount, ParseError, SecretMount, SshMount, TmpfsMount, read_mount
from pybuild.store.objects.cache_mounts import Sharing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pybuild.builder.plan.graph import StepMount
    from pybuild.builder.plan.scope import Scope
    from pybuild.parser import Mount, Word

SCRIPT_DIRECTORY = "/dev/pipes"  # of a heredoc that is a program
AGENT_SOCKET = "/run/buildkit/ssh_agent"  # with .0, .1 … for each ssh mount without a target
_NAMESPACE = "BUILDKIT_CACHE_MOUNT_NS"  # a build argument; each namespace has cache mounts of its own


def plan_mounts(mounts: Sequence[Mount], scope: Scope) -> tuple[list[StepMount], tuple[int | None, ...]]:
    """The mounts of a RUN, and the nodes whose files they mount.

    Raises PlanError at the span of a wrong option.
    """
    nodes: list[int | None] = []
    found: list[StepMount] = []
    for mount in mounts:
        value = _plan_mount(mount, scope, nodes)
        if isinstance(value, SshMount) and value.target is None:
            number = sum(isinstance(before, SshMount) for before in found)
            value = replace(value, target=f"{AGENT_SOCKET}.{number}")
        found.append(value)
    return found, tuple(nodes)


def _plan_mount(mount: Mount, scope: Scope, nodes: list[int | None]) -> StepMount:
    """The value of one mount; the node whose files it mounts, if any, is added to `nodes`. Raises PlanError."""

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
        case BindMount():
            files = _files(mount, scope, value.from_, value.source)
            nodes.append(files.node)
            return FilesMount(_target(mount, scope, value.target), len(nodes) - 1, files.path, value.read_only)
        case CacheMount():
            id = posixpath.normpath(value.target) if value.id is None else value.id
            name = cache_mount_name(id, scope.options.build_args)
            source, path = None, _from_root(value.source)
            if value.from_ is not None:
                files = _files(mount, scope, value.from_, value.source)
                nodes.append(files.node)
                source, path = len(nodes) - 1, files.path
            sharing = Sharing(value.sharing)
            target = _target(mount, scope, value.target)
            return PlannedCacheMount(
                target, name, sharing, value.read_only, value.mode, value.uid, value.gid, source, path
            )
        case _:
            assert_never(value)


def cache_mount_name(id: str, build_args: Mapping[str, str]) -> str:
    """The name of the cache mount that a recipe calls `id`, in the namespace that the build arguments give."""
    namespace = build_args.get(_NAMESPACE)
    return f"{namespace}/{id}" if namespace else id


def _files(mount: Mount, scope: Scope, from_: str | None, source: str) -> NodePath:
    """The node and the path of the files that a mount names."""
    context = scope.nodes.context(from_)
    if context is not None:
        return scope.nodes.context_path(context, source, mount.span)
    assert from_ is not None
    node, path = scope.nodes.source(from_, mount.span), _from_root(source)
    return NodePath(node, in_layer(path) if scope.nodes.is_windows(node) else path)


def _from_root(path: str) -> str:
    """The absolute, normalized form of a path that begins at the root."""
    return posixpath.normpath("/" + path.lstrip("/"))


def _target(mount: Mount, scope: Scope, target: str) -> str:
    path = scope.state.absolute(target)
    if path == "/":
        word = mount.option("target")
        raise PlanError(
            "the root directory cannot be the target of a mount", span=mount.span if word is None else word.span
        )
    return path


def agent_variable(mounts: Sequence[StepMount]) -> str | None:
    """SSH_AUTH_SOCK: the target of the first ssh mount, even if the user gives no agent. None without such a mount."""
    return next((mount.target for mount in mounts if isinstance(mount, SshMount)), None)
