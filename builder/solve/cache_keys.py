"""The keys of the build cache: pure functions of values.

A definition key is made of the expanded step and the canonical keys of its inputs. A content key is made of the files
that a step reads, in place of the keys of their sources. A source key of a COPY is made of the files as they are in their
source, before it is known where they go. Anything that does not affect the result stays out of a key:
times of files, names of stages, the path of the context. The fields of a key are stored with it, so that a miss can be
explained.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, assert_never

from pybuild.builder.options import HOSTNAME
from pybuild.builder.plan.graph import (
    BaseStep,
    CopyStep,
    FilesMount,
    PlannedCacheMount,
    RunStep,
    ScriptMount,
    WorkdirStep,
    source_mounts,
)
from pybuild.parser import SecretMount, SshMount, TmpfsMount
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.builder.plan.graph import Step, StepMount
    from pybuild.store.formats.platform import Platform

_VERSION = 1  # increase it if a step makes something else from the same inputs: every earlier record becomes a miss
SCRATCH = "scratch"  # the canonical key of an empty root filesystem


@frozen
class Key:
    """A key of a step."""

    digest: str  # SHA-256 of `inputs`, in hexadecimal
    inputs: str  # the fields of the key, as canonical JSON
    claimed: bool = False  # whether a canonical key in it is only what a cache of another machine says


def definition_key(step: Step, platform: Platform, inputs: Sequence[str]) -> Key:
    """The key of a step from its text and the canonical keys of its inputs, the parent's first.

    A remote source has no canonical key; its identity (a digest or commit) takes that place.
    """
    return _key("definition", step, platform, inputs, None)


def content_key(step: CopyStep, platform: Platform, parent: str, content: str) -> Key:
    """The key of a COPY from the digest of what it copies and the canonical key of its parent.

    The digest covers sources, destination, mode and owner.
    """
    return _key("content", step, platform, [parent], content)


def source_key(step: CopyStep, platform: Platform, parent: str, sources: str) -> Key:
    """The key of a COPY from the digest of its sources and the canonical key of its parent.

    Destination and owner follow from the text of the step and from the parent. So this key can be computed on a machine
    that has none of the layers below the step.
    """
    fields = {**_common("source", platform, [parent]), **_step_fields(step), "content": sources}
    return _hashed(fields)


def mounting_key(step: RunStep, platform: Platform, parent: str, contents: Sequence[str]) -> Key:
    """The key of a RUN from the canonical key of its parent and the digests of the files that it mounts."""
    reading = source_mounts(step)
    mounts = tuple(replace(mount, path="") if mount in reading else mount for mount in step.mounts)
    fields = {**_common("content", platform, [parent]), **_step_fields(replace(step, mounts=mounts))}
    return _hashed({**fields, "contents": list(contents)})


def link_key(step: CopyStep, platform: Platform, content: str) -> Key:
    """The key of the layer of a COPY --link. It does not depend on the parent."""
    return _key("link", step, platform, [], content)


def stacked_key(parent: str, link: str) -> str:
    """The canonical key of a COPY --link: its link key combined with the canonical key of its parent."""
    return hashlib.sha256(f"pybuild {_VERSION} link {parent} {link}".encode()).hexdigest()


def base_key(chain_id: str) -> str:
    """The canonical key of a base image, from the chain ID of its layers."""
    return hashlib.sha256(f"pybuild {_VERSION} base {chain_id}".encode()).hexdigest()


def _key(kind: str, step: Step, platform: Platform, inputs: Sequence[str], content: str | None) -> Key:
    fields = _common(kind, platform, inputs)
    if content is not None:
        fields |= {"step": "COPY", "content": content}
    else:
        fields |= _step_fields(step)
    return _hashed(fields)


def _common(kind: str, platform: Platform, inputs: Sequence[str]) -> dict[str, object]:
    return {"version": _VERSION, "kind": kind, "platform": str(platform), "inputs": list(inputs)}


def _hashed(fields: dict[str, object]) -> Key:
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return Key(hashlib.sha256(text.encode("ascii")).hexdigest(), text)


def _step_fields(step: Step) -> dict[str, object]:
    fields: dict[str, object]
    match step:
        case BaseStep():
            raise AssertionError("a base image has a key of its own")
        case RunStep(argv=argv, variables=env, cwd=cwd, user=user, network=network):
            fields = {"step": "RUN", "argv": argv, "env": env, "cwd": cwd, "user": user, "network": network.value}
            if step.mounts:
                fields["mounts"] = [_mount_fields(mount) for mount in step.mounts]
            if step.hostname != HOSTNAME:
                fields["hostname"] = step.hostname
            if step.hosts:
                fields["hosts"] = step.hosts
            if step.insecure:
                fields["security"] = "insecure"
            return fields
        case CopyStep(sources=sources, dest=dest, chown=chown, mode=mode):
            fields = {"step": "COPY", "sources": sources, "dest": dest, "chown": chown, "mode": mode}
            if step.exclude:
                fields["exclude"] = step.exclude
            if step.parents:
                fields["parents"] = True
            if step.link:
                fields["link"] = True
            if step.unpack:
                fields["unpack"] = True
            if step.unpack_remote:
                fields["unpack_remote"] = True
            if step.identity:
                fields["context"] = step.identity
            if step.inline:
                fields["inline"] = [(file.name, hashlib.sha256(file.data).hexdigest()) for file in step.inline]
            return fields
        case WorkdirStep(path=path, user=user):
            return {"step": "WORKDIR", "path": path, "user": user}
        case _:
            assert_never(step)


def _mount_fields(mount: StepMount) -> dict[str, object]:
    """The options of a mount. Mounted files count through the inputs; secrets and agents do not count at all."""
    match mount:
        case TmpfsMount():
            return {"type": "tmpfs", **asdict(mount)}
        case SecretMount():
            return {"type": "secret", **asdict(mount)}
        case SshMount():
            return {"type": "ssh", **asdict(mount)}
        case FilesMount(target=target, path=path, read_only=read_only):
            return {"type": "bind", "target": target, "path": path, "read_only": read_only}
        case PlannedCacheMount():
            # The result of a step must not depend on the content of a cache, nor on its name.
            fields = {"type": "cache", "target": mount.target, "read_only": mount.read_only, "path": mount.path}
            return {**fields, "mode": mount.mode, "uid": mount.uid, "gid": mount.gid, "sharing": mount.sharing.value}
        case ScriptMount(target=target, name=name, content=content):
            digest = hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()
            return {"type": "script", "target": target, "name": name, "content": digest}
        case _:
            assert_never(mount)
