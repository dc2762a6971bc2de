"""The mounts of a RUN as the sandbox makes them: where each goes, and what is mounted there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import TYPE_CHECKING, assert_never

from pybuild.builder.plan.graph import FilesMount, PlannedCacheMount, ScriptMount
from pybuild.parser import SecretMount, SshMount, TmpfsMount
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.builder.plan.graph import StepMount
    from pybuild.builder.sandbox import mounts as sandbox
    from pybuild.builder.secrets import BuildSecrets


@frozen
class MountedPaths:
    """Where the sources of a step's mounts are on the disk."""

    files: Mapping[FilesMount, sandbox.BoundFiles | sandbox.CopiedFiles] = field(default_factory=dict)
    caches: Mapping[PlannedCacheMount, str] = field(default_factory=dict)  # directories


@frozen
class MountPoint:
    """A place in the image where the sandbox will mount something."""

    target: str  # absolute
    directory: bool  # else a file


def mount_points(mounts: Sequence[StepMount], paths: MountedPaths) -> tuple[MountPoint, ...]:
    """The targets of these mounts as the recipe names them, symbolic links not followed."""
    points = []
    for mount in mounts:
        if mount.target is not None:
            directory = not isinstance(mount, SecretMount | SshMount)
            if isinstance(mount, FilesMount):
                directory = paths.files[mount].directory
            points.append(MountPoint(mount.target, directory))
    return tuple(points)


def sandbox_mounts(
    mounts: Sequence[StepMount], targets: Sequence[str], secrets: BuildSecrets, paths: MountedPaths
) -> tuple[sandbox.MountOperation, ...]:
    """The mounts for the sandbox, each after the mount that it lies in.

    `targets` are the mount points with links followed, one for each mount that has a target. All secrets and agents
    among the mounts must have been given (`BuildSecrets.available`).
    """
    placed = [mount for mount in mounts if mount.target is not None]
    made = [_sandbox_mount(mount, target, secrets, paths) for mount, target in zip(placed, targets, strict=True)]
    return tuple(sorted(made, key=lambda mount: mount.target.split("/")))


def _sandbox_mount(mount: StepMount, target: str, secrets: BuildSecrets, paths: MountedPaths) -> sandbox.MountOperation:
    from pybuild.builder.sandbox import mounts as sandbox  # a build that runs nothing does not need it

    match mount:
        case FilesMount():
            return replace(paths.files[mount], target=target)
        case PlannedCacheMount():
            path = "" if mount.source is not None else mount.path.lstrip("/")
            return sandbox.CacheDirectory(target, paths.caches[mount], path, mount.read_only)
        case TmpfsMount():
            return sandbox.Tmpfs(target, mount.size, mount.read_only)
        case SecretMount(mode=mode, uid=uid, gid=gid):
            secret = secrets.secret(mount.id)
            assert secret is not None
            return sandbox.SecretFile(target, secret.offset, secret.size, mode, uid, gid)
        case SshMount(mode=mode, uid=uid, gid=gid):
            agent = secrets.agent(mount.id)
            assert agent is not None
            return sandbox.AgentSocket(target, agent, mode, uid, gid)
        case ScriptMount():
            return sandbox.Program(target, mount.name, mount.content)
        case _:
            assert_never(mount)


def with_home(env: tuple[str, ...], home: str) -> tuple[str, ...]:
    """The environment with HOME from the image's passwd, unless the recipe sets it."""
    return env if any(pair.startswith("HOME=") for pair in env) else (*env, f"HOME={home}")
