"""Explaining cache misses: pure functions of the builds that the store remembers.

Each missed step is compared with the most similar step of an earlier build: one at the same place of the same recipe,
else one with the same text anywhere; among several the one with the fewest differences, and then the latest. Each cause
alone would have caused the miss; the first one explains the most.
"""

from __future__ import annotations

import json
import re
from itertools import repeat
from typing import TYPE_CHECKING

from pybuild.builder.misses import Earlier, FileChange, Miss
from pybuild.builder.solve.travelling_inputs import comparable, is_hashed, placed_alike
from pybuild.store.formats.toc import Kind, parent_of
from pybuild.store.objects.builds import Outcome, same_key
from pybuild.values.pattern import pattern
from pybuild.values.redact import redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence, Set

    from pybuild.store.layers.difference import Difference
    from pybuild.store.objects.builds import BuiltStep, MountedFiles, StoredBuild

_SECRET = pattern(r"secret|token|passw|passphrase|pwd|key|auth|cred|private", re.IGNORECASE)
_SHOWN = 60  # characters of a value
# Fields of keys -> how a recipe or a command line names them. Paths and modes of COPY show in its files.
_FIELD_NAMES = {
    "version": "the version of pybuild's cache keys", "platform": "platform", "user": "USER", "cwd": "WORKDIR",
    "path": "path", "network": "--network", "security": "--security", "mounts": "--mount", "hosts": "--add-host",
    "context": "context",
}  # fmt: skip
_SHOWN_FIELDS = frozenset(("platform", "user", "cwd", "path", "network", "security", "hosts"))


def explain(builds: Sequence[StoredBuild], build: StoredBuild) -> list[Miss]:
    """The missed steps of a build, each with its causes. `builds`: all that the store remembers, oldest first."""
    before = [other for other in builds if other.id < build.id]
    return [_explain_step(before, build, step) for step in listed_steps(build) if step.outcome is not Outcome.CACHED]


def listed_steps(build: StoredBuild) -> list[BuiltStep]:
    """The steps to list: those of the recipe, and contexts that stages begin from.

    A context that is only mounted is explained at the RUN that mounts it.
    """
    mounted = {files.node for step in build.steps for files in step.mounted}
    return [step for step in build.steps if step.number or (_is_context(step) and step.node not in mounted)]


def _explain_step(before: Sequence[StoredBuild], build: StoredBuild, step: BuiltStep) -> Miss:
    if step.fresh:
        return Miss(step, None, ("the cache was not used for it: --no-cache or --no-cache-filter",))
    missed_parent = _missed_parent(build, step)
    if not step.inputs:
        return Miss(step, None, (*_stands_on(missed_parent), *_reads(build, step)))
    earlier = _nearest(before, build, step)
    if earlier is None:
        recipe_known = any(other.recipe == build.recipe and any(map(_has_result, other.steps)) for other in before)
        reason = "no earlier build had this step" if recipe_known else "no earlier build of this recipe is remembered"
        return Miss(step, None, (*_stands_on(missed_parent), reason))
    old, new = _fields(earlier.step), _fields(step)
    if earlier.build.cache:
        old, new = placed_alike(old, new), comparable(old, new)
    causes = [*_parent_causes(build, step, earlier, missed_parent), *_instruction_causes(step, earlier.step)]
    if step.instruction == earlier.step.instruction and old.get("argv") != new.get("argv"):
        causes.append(_command_cause(_strings(old.get("argv")), _strings(_fields(step).get("argv"))))
    causes += _field_causes(old, new, {*earlier.step.args, *step.args})
    other_files = old.get("content") != new.get("content") and "content" in old and "content" in new
    other_mounts = tuple(_other_mounts(build, step, earlier.step))
    if not other_mounts and old.get("kind") == new.get("kind") and old.get("contents") != new.get("contents"):
        causes.append("the files that it mounts differ")
    if not causes and old.get("kind") != new.get("kind"):
        causes = [*_reads(build, step)] or ["the content of its sources is not known"]
    if not causes and not other_files and not other_mounts:
        if earlier.build.cache:
            causes.append("the cache has it on other layers, or without a layer")
        else:
            causes.append(f"its record is gone: evicted since build {earlier.build.id}")
    return Miss(step, earlier, tuple(causes), other_files, other_mounts)


def _other_mounts(
    build: StoredBuild, step: BuiltStep, earlier: BuiltStep
) -> Iterator[tuple[MountedFiles, MountedFiles]]:
    """Pairs of mounts at the same target, then and now, whose files differ.

    If the step did not get as far as reading its mounts, mounts of contexts that are not cached count as different.
    """
    before = {files.target: (files, content) for files, content in _mounted(earlier)}
    for files, content in _mounted(step):
        was, digest = before.get(files.target, (None, ""))
        source = _node(build, files.node)
        unread = source is not None and _is_context(source) and source.outcome is not Outcome.CACHED
        if was is not None and (digest != content if content and digest else unread):
            yield was, files


def _mounted(step: BuiltStep) -> Iterator[tuple[MountedFiles, str]]:
    """The mounts of a step, each with the digest of its files; "" if the step did not get as far as reading them."""
    contents = _strings(_fields(step).get("contents"))
    return zip(step.mounted, contents if len(contents) == len(step.mounted) else repeat(""), strict=False)


def _nearest(before: Sequence[StoredBuild], build: StoredBuild, step: BuiltStep) -> Earlier | None:
    texts = {other.instruction for other in build.steps if other.stage == step.stage}
    new = _fields(step)
    best: tuple[tuple[object, ...], Earlier] | None = None
    for age, other in enumerate(reversed(before)):
        for candidate in other.steps:
            same_text = candidate.instruction == step.instruction
            same_place = other.recipe == build.recipe and candidate.stage == step.stage
            # A step with another text in the same place can be an older version of this step, unless this build has
            # that text elsewhere.
            replaced = same_place and candidate.number == step.number and candidate.instruction not in texts
            if not _has_result(candidate) or not (same_text or replaced):
                continue
            old = _fields(candidate)
            if old.get("step") != new.get("step"):
                continue
            differing = (
                _differing(placed_alike(old, new), comparable(old, new)) if other.cache else _differing(old, new)
            )
            distance = abs(candidate.number - step.number)
            rank = (not same_place, not same_text, not same_key(candidate, step), differing, distance, age)
            if best is None or rank < best[0]:
                best = rank, Earlier(other, candidate)
    return best[1] if best is not None else None


def _differing(old: Mapping[str, object], new: Mapping[str, object]) -> int:
    return sum(old.get(name) != new.get(name) for name in {*old, *new})


def _has_result(step: BuiltStep) -> bool:
    """Whether a step of the recipe or a context was cached or ran, so that it can be compared with."""
    return (step.number > 0 or _is_context(step)) and step.outcome in (Outcome.CACHED, Outcome.RAN)


def _is_context(step: BuiltStep) -> bool:
    """Whether a step makes a root filesystem of a context's files, for a FROM, a COPY --from or a mount."""
    return step.number == 0 and step.parent is None and _fields(step).get("step") == "COPY"


def _missed_parent(build: StoredBuild, step: BuiltStep) -> BuiltStep | None:
    """The step below, if that was not cached either."""
    below = _node(build, step.parent)
    return below if below is not None and below.outcome is not Outcome.CACHED else None


def _stands_on(below: BuiltStep | None) -> Iterator[str]:
    if below is not None:
        yield f"stands on {_name(below)}, which is not cached"


def _reads(build: StoredBuild, step: BuiltStep) -> Iterator[str]:
    for node in step.sources:
        source = _node(build, node)
        if source is not None and source.outcome is not Outcome.CACHED:
            yield f"reads {_name(source)}, which is not cached"


def _parent_causes(
    build: StoredBuild, step: BuiltStep, earlier: Earlier, missed_parent: BuiltStep | None
) -> Iterator[str]:
    """Causes below the step. The sources of a COPY are left out: its files explain them."""
    old, new = _fields(earlier.step), _fields(step)
    if new.get("kind") == "link":
        return
    inputs, before = _strings(new.get("inputs")), _strings(old.get("inputs"))
    if missed_parent is not None and (inputs[:1] != before[:1] or same_key(step, earlier.step)):
        yield from _stands_on(missed_parent)
    elif inputs[:1] != before[:1]:
        below, was = _node(build, step.parent), _node(earlier.build, earlier.step.parent)
        if below is not None and was is not None and not below.number and not was.number:
            yield f"the base image changed: {_base(was)}, now {_base(below)}"
        elif below is not None and was is not None:
            yield f"stands on {_name(below)}, no longer on {_name(was)}"
        else:
            yield "it stands on another step"
    if old.get("kind") == new.get("kind") and inputs[1:] != before[1:]:
        names = [_name(source) for node in step.sources if (source := _node(build, node)) is not None]
        yield f"reads {', '.join(names)}, which changed" if names else "its remote source changed"


def _command_cause(old: Sequence[str], new: Sequence[str]) -> str:
    if any(map(is_hashed, old)):
        return f"the command is {_words(list(new))}, was another one"
    return f"the command is {_words(list(new))}, was {_words(list(old))}"


def _instruction_causes(step: BuiltStep, was: BuiltStep) -> Iterator[str]:
    if step.instruction != was.instruction:
        yield f"the instruction was {_cut(was.instruction)}"


def _field_causes(old: Mapping[str, object], new: Mapping[str, object], args: Set[str]) -> Iterator[str]:
    if old.get("kind") != new.get("kind"):
        return  # a COPY that did not get as far as reading its files: only its text is known
    yield from _env_causes(_strings(old.get("env")), _strings(new.get("env")), args)
    for name, field_name in _FIELD_NAMES.items():
        if old.get(name) != new.get(name):
            shown = f" was {_value(old.get(name))}, is {_value(new.get(name))}" if name in _SHOWN_FIELDS else " differs"
            yield field_name + shown


def _env_causes(old: Sequence[str], new: Sequence[str], args: Set[str]) -> Iterator[str]:
    before, after = (dict(pair.split("=", 1) for pair in pairs if "=" in pair) for pairs in (old, new))
    for name in {**after, **before}:
        if before.get(name) == after.get(name):
            continue
        what = f"{'ARG' if name in args else 'ENV'} {name}"
        if name not in before:
            yield f"{what} is new" + ("" if _is_secret(name) else f": {_value(after[name])}")
        elif name not in after:
            yield f"{what} is gone" + (
                "" if _is_secret(name) or is_hashed(before[name]) else f": was {_value(before[name])}"
            )
        elif _is_secret(name) or is_hashed(before[name]):
            yield f"{what} has another value"
        else:
            yield f"{what} was {_value(before[name])}, is {_value(after[name])}"
    if before == after and list(old) != list(new):
        yield "the order of the environment differs"


def file_changes(differences: Sequence[Difference]) -> list[FileChange]:
    """How files differ. A directory that was added or removed together with its content gets no line of its own."""
    found = []
    holders = {parent_of(path) for path, _, _ in differences}
    for path, before, after in differences:
        if before is None or after is None:
            entry = before or after
            assert entry is not None
            if entry.kind is not Kind.DIRECTORY or path not in holders:
                found.append(FileChange(path, "added" if before is None else "removed"))
            continue
        if before.kind is not after.kind:
            found.append(FileChange(path, f"{before.kind.name.lower()}, now {after.kind.name.lower()}"))
            continue
        how = []
        if (before.size, before.sha256) != (after.size, after.sha256):
            how.append("content")
        if before.link != after.link:
            how.append("target of the link")
        if before.mode != after.mode:
            how.append(f"mode {before.mode:04o}, now {after.mode:04o}")
        if (before.uid, before.gid) != (after.uid, after.gid):
            how.append(f"owner {before.uid}:{before.gid}, now {after.uid}:{after.gid}")
        if before.xattrs != after.xattrs:
            how.append("attributes")
        found.append(FileChange(path, ", ".join(how) or "device"))
    return found


def _fields(step: BuiltStep) -> Mapping[str, object]:
    fields = json.loads(step.inputs) if step.inputs else {}
    return fields if isinstance(fields, dict) else {}


def _node(build: StoredBuild, node: int | None) -> BuiltStep | None:
    return next((step for step in build.steps if step.node == node), None)


def _name(step: BuiltStep) -> str:
    stage = f"{step.platform} {step.stage}" if step.platform else step.stage
    return f"[{stage} {step.number}] {_cut(step.instruction)}" if step.number else _cut(step.instruction)


def _base(step: BuiltStep) -> str:
    manifest = _fields(step).get("manifest")
    return f"{step.instruction.removeprefix('FROM ')} {str(manifest)[:19] if manifest else ''}".strip()


def _is_secret(name: str) -> bool:
    return _SECRET.search(name) is not None


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _words(value: object) -> str:
    return _value(" ".join(_strings(value)))


def _value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "nothing"
    return f'"{_cut(redact(str(value)))}"' if value is not None else "nothing"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
