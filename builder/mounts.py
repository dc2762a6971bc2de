"""The mounts of a RUN: what --mount says as values of the plan, and what the sandbox gets of them."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import field, replace
from typing import TYPE_CHECKING, TypeAlias, assert_never

from pybuild.builder.errors import PlanError
from pybuild.builder.scope import Files
from pybuild.parser import BindMount, CacheMount, ParseError, SecretMount, SshMount, TmpfsMount, read_mount
from pybuild.store.objects.cache_mounts import Sharing
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.builder.handed import Handed
    from pybuild.builder.plan import RunStep
    from pybuild.builder.sandbox import mounts as sandbox
    from pybuild.builder.scope import Scope
    from pybuild.parser import Mount, Word

SCRIPTS = "/dev/pipes"
AGENTS = "/run/buildkit/ssh_agent"
BOUND = "/bound"  # where the files of a context's path lie in the root filesystem that is made of them
_NAMESPACE = "BUILDKIT_CACHE_MOUNT_NS"  # a build argument: cache mounts of other namespaces are others


@frozen
class ScriptMount:
    """A heredoc that is a program, as a file of its name in a directory that can only be read."""

    target: str
    name: str
    content: str


@frozen
class FilesMount:
    """Files of another root filesystem, at `path` in what the step's source of this number holds. Writes are lost."""

    target: str
    source: int
    path: str
    read_only: bool


@frozen
class KeptMount:
    """A cache mount of the store. `name` is its id with the build's namespace; `path` in the source of this number
    (None: nothing) is what it holds at first, without a source a path in the cache itself.
    """

    target: str
    name: str
    sharing: Sharing
    read_only: bool
    mode: int
    uid: int
    gid: int
    source: int | None
    path: str


# Those of the parser have had its words expanded and its target made absolute.
StepMount: TypeAlias = TmpfsMount | SecretMount | SshMount | ScriptMount | FilesMount | KeptMount


@frozen
class Found:
    """Where what the mounts of a step need is on the disk: files of others, and the directories of cache mounts."""

    files: Mapping[FilesMount, sandbox.Bound] = field(default_factory=dict)
    kept: Mapping[KeptMount, str] = field(default_factory=dict)


@frozen
class MountPoint:
    """Where something will be mounted, by its absolute name in the image."""

    target: str
    directory: bool


def plan_mounts(mounts: Sequence[Mount], scope: Scope) -> tuple[list[StepMount], tuple[int | None, ...]]:
    """The values of all --mount of a RUN, and the nodes that hold what they mount.

    Raises PlanError at the option that is wrong.
    """
    nodes: list[int | None] = []
    found: list[StepMount] = []
    for mount in mounts:
        value = _plan_mount(mount, scope, nodes)
        if isinstance(value, SshMount) and value.target is None:
            number = sum(isinstance(before, SshMount) for before in found)
            value = replace(value, target=f"{AGENTS}.{number}")
        found.append(value)
    return found, tuple(nodes)


def _plan_mount(mount: Mount, scope: Scope, nodes: list[int | None]) -> StepMount:

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
            name = posixpath.normpath(value.target) if value.id is None else value.id
            if namespace := scope.options.build_args.get(_NAMESPACE):
                name = f"{namespace}/{name}"
            source, path = None, _from_root(value.source)
            if value.from_ is not None:
                files = _files(mount, scope, value.from_, value.source)
                nodes.append(files.node)
                source, path = len(nodes) - 1, files.path
            sharing = Sharing(value.sharing)
            target = _target(mount, scope, value.target)
            return KeptMount(target, name, sharing, value.read_only, value.mode, value.uid, value.gid, source, path)
        case _:
            assert_never(value)


def _files(mount: Mount, scope: Scope, from_: str | None, source: str) -> Files:
    """Where the files are that a mount names."""
    context = scope.context(from_)
    if context is not None:
        return scope.files(context, source, mount.span)
    assert from_ is not None
    return Files(scope.source(from_, mount.span), _from_root(source))


def _from_root(path: str) -> str:
    """A path as it is seen from a root."""
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
    """Where programs look for the agent: at the first one, whether it was given or not."""
    return next((mount.target for mount in mounts if isinstance(mount, SshMount)), None)


def bound(step: RunStep) -> tuple[FilesMount | KeptMount, ...]:
    """The mounts that read files of the step's sources."""
    return tuple(
        mount for mount in step.mounts if isinstance(mount, FilesMount | KeptMount) and mount.source is not None
    )


def mount_points(mounts: Sequence[StepMount], found: Found) -> tuple[MountPoint, ...]:
    """Where these mounts go, each as it is written."""
    points = []
    for mount in mounts:
        if mount.target is not None:
            directory = not isinstance(mount, SecretMount | SshMount)
            if isinstance(mount, FilesMount):
                directory = found.files[mount].directory
            points.append(MountPoint(mount.target, directory))
    return tuple(points)


def sandbox_mounts(
    mounts: Sequence[StepMount], targets: Sequence[str], handed: Handed, found: Found
) -> tuple[sandbox.StepMount, ...]:
    """The mounts as the sandbox makes them, one in which another lies before that.

    `targets` belong to the mount points, without links; all secrets and agents among the mounts are there.
    """
    placed = [mount for mount in mounts if mount.target is not None]
    made = [_sandbox_mount(mount, target, handed, found) for mount, target in zip(placed, targets, strict=True)]
    return tuple(sorted(made, key=lambda mount: mount.target.split("/")))


def _sandbox_mount(mount: StepMount, target: str, handed: Handed, found: Found) -> sandbox.StepMount:
    from pybuild.builder.sandbox import mounts as sandbox  # only where something runs

    match mount:
        case FilesMount():
            return replace(found.files[mount], target=target)
        case KeptMount():
            path = "" if mount.source is not None else mount.path.lstrip("/")
            return sandbox.Kept(target, found.kept[mount], path, mount.read_only)
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
