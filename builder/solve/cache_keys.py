"""The keys of the build cache: pure functions of values.

A definition key is made of the expanded step and the canonical keys of all that it reads; a content key of what was
copied instead. What the result does not depend on stays out: times of files, the names of stages, where the context
lies. The fields are kept beside the key, so that a miss can be explained.
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

_VERSION = 1  # of what a step makes from the same inputs; a change of it makes every earlier record a miss
SCRATCH = "scratch"  # the canonical key of having nothing below


@frozen
class Key:
    """A key and what it was made of, as canonical JSON."""

    digest: str
    inputs: str


def definition_key(step: Step, platform: Platform, inputs: Sequence[str]) -> Key:
    """The key of a step whose inputs (first the one it stands on) have these canonical keys.

    What is fetched for it has no key, but an identity, which takes the place of one.
    """
    return _key("definition", step, platform, inputs, None)


def content_key(step: CopyStep, platform: Platform, parent: str, content: str) -> Key:
    """The key of a COPY that copies `content` onto what has the canonical key `parent`.

    The sources and the mode of the step are in the content already; the text of the destination too.
    """
    return _key("content", step, platform, [parent], content)


def bound_key(step: RunStep, platform: Platform, parent: str, contents: Sequence[str]) -> Key:
    """The key of a RUN on what has the canonical key `parent`, that has files with these digests mounted."""
    reading = source_mounts(step)
    mounts = tuple(replace(mount, path="") if mount in reading else mount for mount in step.mounts)
    fields = {**_common("content", platform, [parent]), **_step_fields(replace(step, mounts=mounts))}
    return _hashed({**fields, "contents": list(contents)})


def link_key(step: CopyStep, platform: Platform, content: str) -> Key:
    """The key of the layer of a COPY --link, whatever it lies on."""
    return _key("link", step, platform, [], content)


def stacked_key(parent: str, link: str) -> str:
    """The canonical key of a layer with a link key on top of what has the canonical key `parent`."""
    return hashlib.sha256(f"pybuild {_VERSION} link {parent} {link}".encode()).hexdigest()


def base_key(chain_id: str) -> str:
    """The canonical key of an image's layers."""
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
            raise AssertionError("an image has its own key")
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
    """What a mount says. What it holds comes with the inputs, or does not count, as with secrets and agents."""
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
            # Neither what a cache holds nor how it is called decides what a step makes.
            fields = {"type": "cache", "target": mount.target, "read_only": mount.read_only, "path": mount.path}
            return {**fields, "mode": mount.mode, "uid": mount.uid, "gid": mount.gid, "sharing": mount.sharing.value}
        case ScriptMount(target=target, name=name, content=content):
            digest = hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()
            return {"type": "script", "target": target, "name": name, "content": digest}
        case _:
            assert_never(mount)
