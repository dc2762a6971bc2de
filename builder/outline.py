"""What a recipe offers, without running any of it: its targets, and the parameters of one target.

`docker buildx build --call=targets` and `--call=outline` list the same. A description is the comment above a FROM or an
ARG that begins with the name of the stage or the argument.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pybuild.builder.check import NoBases, RegistryBases, StoredBases
from pybuild.builder.events import ignore
from pybuild.builder.options import Pull
from pybuild.builder.plan.graph import RunStep
from pybuild.builder.plan.lint import Inspector
from pybuild.builder.plan.parse_cache import StoredParses
from pybuild.builder.plan.planner import plan
from pybuild.builder.plan.replaced_words import StateWords
from pybuild.builder.plan.resolve import resolve
from pybuild.builder.plan.stage_state import StageState
from pybuild.builder.secrets import BuildSecrets
from pybuild.builder.session import Session
from pybuild.builder.sources.contexts import Contexts
from pybuild.builder.workers.pool import Pool
from pybuild.parser import Arg, SecretMount, SshMount, parse, parse_trigger
from pybuild.store.formats.oci_config import ExecConfig
from pybuild.values import frozen
from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.builder.build import BuildRequest
    from pybuild.builder.plan.graph import Plan
    from pybuild.builder.plan.resolve import Resolved, ResolvedStage
    from pybuild.parser import Instruction, Source, Span
    from pybuild.store.store import Store


@frozen
class Target:
    """A stage that can be built. `base` and `platform` are as in the recipe."""

    name: str
    description: str
    base: str
    platform: str
    is_default: bool
    span: Span


@frozen
class Targets:
    """All stages of a recipe, in its order."""

    source: Source
    targets: tuple[Target, ...]


@frozen
class Parameter:
    """A build argument, with the value that the build would use."""

    name: str
    value: str
    description: str
    span: Span


@frozen
class Need:
    """A secret or an SSH agent that a RUN mounts."""

    id: str
    required: bool
    span: Span


@frozen
class Outline:
    """What the user can give to the build of a target, in the order of the recipe."""

    source: Source
    name: str
    description: str
    arguments: tuple[Parameter, ...]
    secrets: tuple[Need, ...]
    agents: tuple[Need, ...]


def targets(request: BuildRequest, store: Store) -> Targets:
    """The targets of a recipe. Raises PybuildError, OSError."""
    with Pool() as pool, BuildSecrets() as secrets:
        session = Session(store, pool, request.options, ignore, secrets)
        contexts = Contexts(session, NoBases(session), request.context, request.contexts)
        recipe = contexts.open_main(request.recipe)
        buildfile = parse(recipe.data, recipe.path, cache=StoredParses(store))
    found = []
    for stage in buildfile.stages:
        base, name = stage.base, stage.name or ""
        platform = "" if base.platform is None else base.platform.text
        described = _description(buildfile.source, base.span, name)
        is_default = stage is buildfile.stages[-1]
        found.append(Target(name, described, base.image.text, platform, is_default, base.span))
    return Targets(buildfile.source, tuple(found))


def outline(request: BuildRequest, store: Store) -> Outline:
    """The parameters of the target. A missing base counts as empty. Raises PybuildError, OSError."""
    with Pool() as pool, BuildSecrets() as secrets:
        session = Session(store, pool, request.options, ignore, secrets)
        images = RegistryBases(session) if request.options.pull is Pull.ALWAYS else StoredBases(session)
        contexts = Contexts(session, images, request.context, request.contexts)
        recipe = contexts.open_main(request.recipe)
        cache = StoredParses(store)
        buildfile = parse(recipe.data, recipe.path, cache=cache)
        try:
            read_trigger = partial(parse_trigger, cache=cache)
            resolved = resolve(buildfile, request.options, images, read_trigger, contexts)
            # The inspector tells mistakes from lines that only a missing base makes wrong.
            inspector = Inspector(resolved, request.options, contexts.source, images.unknown_stages(resolved))
            arguments = _Arguments(resolved, inspector)
            planned = plan(resolved, request.options, arguments, inspector.take_mistake)
            for error in inspector.mistakes:
                raise error
        except PybuildError as error:
            raise error.at(source=buildfile.source) from error
    stage = buildfile.stages[resolved.target]
    name = stage.name or ""
    return Outline(
        buildfile.source,
        name,
        _description(buildfile.source, stage.base.span, name),
        tuple(arguments.found()),
        tuple(_needs(planned, SecretMount)),
        tuple(_needs(planned, SshMount)),
    )


def _needs(planned: Plan, kind: type[SecretMount | SshMount]) -> Iterator[Need]:
    seen = set()
    for node in sorted(planned.nodes, key=lambda node: node.span.line):
        for mount in node.step.mounts if isinstance(node.step, RunStep) else ():
            if isinstance(mount, kind) and mount.id not in seen:
                seen.add(mount.id)
                yield Need(mount.id, mount.required, node.span)


class _Arguments:
    """Collects the ARGs of the needed stages while the recipe is planned, then those before FROM that they use."""

    def __init__(self, resolved: Resolved, inspector: Inspector) -> None:
        self._resolved = resolved
        self._buildfile = resolved.buildfile
        self._inspector = inspector
        self._build_args = inspector.build_args
        self._found: dict[str, Parameter] = {}
        self._wanted: set[str] = set()  # ARGs before FROM that the target uses

    def __call__(self, stage: ResolvedStage, instruction: Instruction, state: StageState) -> None:
        self._inspector(stage, instruction, state)
        if not isinstance(instruction, Arg):
            return
        for item in instruction.items:
            value = self._build_args.get(item.name)
            if value is None and item.default is None and item.name in self._resolved.global_args:
                self._wanted.add(item.name)
                continue
            if value is None and item.default is not None:
                value = StateWords(state, self._buildfile.escape).expand(item.default)
            described = _description(self._buildfile.source, instruction.span, item.name)
            self._found.setdefault(item.name, Parameter(item.name, value or "", described, instruction.span))

    def found(self) -> list[Parameter]:
        """All parameters, in the order of the recipe."""
        nothing = StateWords(StageState(ExecConfig()), self._buildfile.escape)
        for stage in self._resolved.stages.values():
            base = stage.stage.base
            words = [base.image] if base.platform is None else [base.image, base.platform]
            self._wanted |= set(nothing.variables_in(words).missing)
        for arg in reversed(self._buildfile.args):
            for item in reversed(arg.items):
                if item.name not in self._wanted or item.name in self._found:
                    continue
                value = self._resolved.global_args.get(item.name) or ""
                described = _description(self._buildfile.source, arg.span, item.name)
                self._found[item.name] = Parameter(item.name, value, described, arg.span)
                if item.default is not None and item.name not in self._build_args:
                    self._wanted |= set(nothing.variables_in([item.default]).missing)
        return sorted(self._found.values(), key=lambda parameter: parameter.span.line)


def _description(source: Source, span: Span, name: str) -> str:
    """The rest of the first comment line directly above a place that begins with the name."""
    lines = source.text.split("\n")
    first = span.line - 1
    while first > 0 and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    for line in lines[first : span.line - 1]:
        comment = line.strip().lstrip("#").strip()
        if name and comment.startswith(f"{name} "):
            return comment.removeprefix(f"{name} ").strip()
    return ""
