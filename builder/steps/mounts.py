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
    from pybuild.builder.steps.secrets import Handed


@frozen
class MountedPaths:
    """Where what the mounts of a step need is on the disk: files of others, and the directories of cache mounts."""

    files: Mapping[FilesMount, sandbox.BoundFiles] = field(default_factory=dict)
    kept: Mapping[PlannedCacheMount, str] = field(default_factory=dict)


@frozen
class MountPoint:
    """Where something will be mounted, by its absolute name in the image."""

    target: str
    directory: bool


def mount_points(mounts: Sequence[StepMount], found: MountedPaths) -> tuple[MountPoint, ...]:
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
    mounts: Sequence[StepMount], targets: Sequence[str], handed: Handed, found: MountedPaths
) -> tuple[sandbox.MountOperation, ...]:
    """The mounts as the sandbox makes them, one in which another lies before that.

    `targets` belong to the mount points, without links; all secrets and agents among the mounts are there.
    """
    placed = [mount for mount in mounts if mount.target is not None]
    made = [_sandbox_mount(mount, target, handed, found) for mount, target in zip(placed, targets, strict=True)]
    return tuple(sorted(made, key=lambda mount: mount.target.split("/")))


def _sandbox_mount(mount: StepMount, target: str, handed: Handed, found: MountedPaths) -> sandbox.MountOperation:
    from pybuild.builder.sandbox import mounts as sandbox  # only where something runs

    match mount:
        case FilesMount():
            return replace(found.files[mount], target=target)
        case PlannedCacheMount():
            path = "" if mount.source is not None else mount.path.lstrip("/")
            return sandbox.CacheDirectory(target, found.kept[mount], path, mount.read_only)
        case TmpfsMount():
            return sandbox.Tmpfs(target, mount.size, mount.read_only)
        case SecretMount(mode=mode, uid=uid, gid=gid):
            secret = handed.secret(mount.id)
            assert secret is not None
            return sandbox.SecretFile(target, secret.offset, secret.size, mode, uid, gid)
        case SshMount(mode=mode, uid=uid, gid=gid):
            agent = handed.agent(mount.id)
            assert agent is not None
            return sandbox.AgentSocket(target, agent, mode, uid, gid)
        case ScriptMount():
            return sandbox.Program(target, mount.name, mount.content)
        case _:
            assert_never(mount)
