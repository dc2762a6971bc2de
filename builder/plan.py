"""The plan: every text decision taken, nothing run. A pure function of the resolved recipe and the options.

Steps that make a layer (RUN, COPY, WORKDIR) become nodes of a graph; all other instructions only change the config
and are folded into the state. Each instruction leaves one line of history, in the form that BuildKit gives it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, assert_never

from builder.errors import PlanError
from builder.history import Line, command_list, run_line
from builder.resolve import expand_word, platform_args
from builder.state import StageState
from parser import (
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    ExecForm,
    ExpansionError,
    Expose,
    Healthcheck,
    Label,
    Maintainer,
    Onbuild,
    PatternError,
    PortError,
    Run,
    Shell,
    ShellForm,
    Stopsignal,
    User,
    Volume,
    Workdir,
    expand_words,
    match_pattern,
    parse_ports,
    valid_signal,
)
from store.spec import ExecConfig

if TYPE_CHECKING:
    from builder.options import BuildOptions, Network
    from builder.resolve import Resolved, ResolvedStage
    from parser import Command, Instruction, Span, Word
    from store.digest import Digest
    from store.images import Image

_OCTAL = re.compile(r"[0-7]{1,5}")
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")


@dataclass(frozen=True, slots=True)
class BaseStep:
    """The layers of an image."""

    image: Image


@dataclass(frozen=True, slots=True)
class RunStep:
    """A command. `env` lacks HOME where the image's passwd has to tell it.

    `proxy` is how this machine reaches others: part of the environment, but not of what the result depends on.
    """

    argv: tuple[str, ...]
    variables: tuple[str, ...]
    cwd: str
    user: str
    network: Network
    proxy: tuple[str, ...] = ()

    @property
    def env(self) -> tuple[str, ...]:
        """All of the environment, as `name=value`."""
        return (*self.variables, *self.proxy)


@dataclass(frozen=True, slots=True)
class CopyStep:
    """Files, from the context or (`from_stage`) from another stage, which then is the second input."""

    sources: tuple[str, ...]
    dest: str
    chown: str | None
    mode: int | None
    from_stage: bool


@dataclass(frozen=True, slots=True)
class WorkdirStep:
    """Make a directory, with all that is missing above it, for the user of the moment."""

    path: str
    user: str


Step = BaseStep | RunStep | CopyStep | WorkdirStep


@dataclass(frozen=True, slots=True)
class Node:
    """One step. `inputs` are nodes: first the one it stands on (None: on nothing), then those it reads."""

    id: int
    step: Step
    parent: int | None
    sources: tuple[int | None, ...]
    stage: str
    number: int
    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stage as planned: its last node (None: no layers at all), the config, the history it adds to its base's."""

    node: int | None
    state: StageState
    base: Image | None
    history: tuple[Line, ...]
    totals: int


@dataclass(frozen=True, slots=True)
class Plan:
    """All nodes, every input before its users, and what is to come of them."""

    nodes: tuple[Node, ...]
    stages: Mapping[int, PlannedStage]
    target: int

    @property
    def image(self) -> PlannedStage:
        """The stage that the image is made of."""
        return self.stages[self.target]


def plan(resolved: Resolved, options: BuildOptions) -> Plan:
    """Take every text decision. Raises PlanError at the first mistake in a stage that the target needs."""
    planner = _Planner(resolved, options)
    for index, stage in resolved.stages.items():
        planner.stage(index, stage)
    return Plan(tuple(planner.nodes), planner.stages, resolved.target)


class _Planner:
    def __init__(self, resolved: Resolved, options: BuildOptions) -> None:
        self._resolved = resolved
        self._options = options
        self._escape = resolved.buildfile.escape
        self.nodes: list[Node] = []
        self.stages: dict[int, PlannedStage] = {}
        self._images: dict[Digest, int] = {}  # nodes of images that are copied from
        self._stage: ResolvedStage
        self._state: StageState
        self._node: int | None
        self._history: list[Line]
        self._number = 0

    def stage(self, index: int, resolved: ResolvedStage) -> None:
        """Plan one stage; those it needs have been planned before."""
        self._stage = resolved
        self._number = 0
        if resolved.parent is not None:
            before = self.stages[resolved.parent]
            self._state, self._node, base = before.state.derived(), before.node, before.base
            self._history = list(before.history)
        else:
            base = resolved.image
            self._state = StageState.of_base(base.config.config if base is not None else ExecConfig())
            self._node = None
            self._history = []
            if base is not None and base.snapshot is not None:
                self._add(BaseStep(base), resolved.stage.base.span, f"FROM {resolved.image_name}", (), counts=False)
        for instruction in resolved.stage.instructions:
            self._instruction(instruction)
        self.stages[index] = PlannedStage(self._node, self._state, base, tuple(self._history), self._number)

    def _add(self, step: Step, span: Span, text: str, sources: tuple[int | None, ...], *, counts: bool = True) -> None:
        self._number += counts
        name = self._stage_name()
        self.nodes.append(Node(len(self.nodes), step, self._node, sources, name, self._number, span, text))
        self._node = self.nodes[-1].id

    def _stage_name(self) -> str:
        stage = self._resolved.buildfile.stages[self._stage.stage.index]
        return stage.name or f"stage-{stage.index}"

    def _remember(self, text: str, *, layer: bool = False) -> None:
        self._history.append(Line(text, self._node if layer else None))

    def _expand(self, word: Word) -> str:
        return expand_word(word, self._state.scope, self._escape)

    def _config(self, config: ExecConfig, text: str) -> None:
        self._state = replace(self._state, config=config)
        self._remember(text)

    def _instruction(self, instruction: Instruction) -> None:
        config = self._state.config
        match instruction:
            case Run():
                self._run(instruction)
            case Copy():
                self._copy(instruction)
            case Workdir():
                self._workdir(instruction)
            case Arg():
                self._arg(instruction)
            case Env(pairs=pairs):
                values = [(self._expand(name), self._expand(value)) for name, value in pairs]
                for (word, _), (name, _) in zip(pairs, values, strict=True):
                    if not name:
                        raise PlanError("ENV: the name is empty", span=word.span, hint="a variable without a value?")
                self._state = self._state.with_env(dict(values))
                self._remember("ENV " + " ".join(f"{name}={value}" for name, value in values))
            case Label(pairs=pairs):
                values = [(self._expand(name), self._expand(value)) for name, value in pairs]
                text = "LABEL " + " ".join(f"{name}={value}" for name, value in values)
                self._config(replace(config, labels={**config.labels, **dict(values)}), text)
            case User(user=word):
                user = self._expand(word)
                if not user:
                    raise PlanError("USER: the name is empty", span=word.span)
                self._config(replace(config, user=user), f"USER {user}")
            case Cmd(command=command):
                argv = self._command(command)
                self._state = replace(self._state, cmd_here=True)
                self._config(replace(config, cmd=argv, args_escaped=True), f"CMD {command_list(argv)}")
            case Entrypoint(command=command):
                argv = self._command(command)
                cmd = config.cmd if self._state.cmd_here else None
                self._config(replace(config, entrypoint=argv, cmd=cmd), f"ENTRYPOINT {command_list(argv)}")
            case Expose():
                self._expose(instruction)
            case Volume(paths=words):
                volumes = [self._expand(word) for word in words]
                if not all(volume.strip() for volume in volumes):
                    raise PlanError("VOLUME: a path is empty", span=instruction.span)
                self._config(
                    replace(config, volumes=tuple(sorted({*config.volumes, *volumes}))), f"VOLUME [{' '.join(volumes)}]"
                )
            case Shell(argv=argv):
                self._config(replace(config, shell=argv), f"SHELL [{' '.join(argv)}]")
            case Stopsignal(signal=word):
                signal = self._expand(word)
                if not valid_signal(signal):
                    raise PlanError(
                        f"STOPSIGNAL {signal}: no such signal",
                        span=word.span,
                        hint="a name such as SIGTERM, or a number",
                    )
                self._config(replace(config, stop_signal=signal), f"STOPSIGNAL {signal}")
            case Add() | Healthcheck() | Maintainer() | Onbuild():
                raise AssertionError("builder.unsupported refuses these")
            case _:
                assert_never(instruction)

    def _command(self, command: Command) -> tuple[str, ...]:
        match command:
            case ExecForm(argv=argv):
                return argv
            case ShellForm(text=text):
                return (*self._state.shell, text)
            case _:
                assert_never(command)

    def _run(self, instruction: Run) -> None:
        state = self._state
        argv = self._command(instruction.command)
        if not argv:
            raise PlanError("RUN: the command is empty", span=instruction.span)
        cwd, user = state.config.working_dir or "/", state.config.user
        step = RunStep(argv, state.run_env, cwd, user, self._options.network, self._proxy())
        self._add(step, instruction.span, instruction.text, ())
        self._remember(run_line(state.run_args, argv), layer=True)

    def _proxy(self) -> tuple[str, ...]:
        """The predefined ARGs of the build that the recipe says nothing about: RUN sees them without a declaration.

        Programs differ in which case they look at, so both are set.
        """
        found: dict[str, str] = {}
        for name, value in self._options.build_args.items():
            if name.lower() in _PROXIES and value:
                found |= {name.lower(): value, name.upper(): value}
        scope = self._state.scope
        return tuple(f"{name}={found[name]}" for name in sorted(found) if name not in scope)

    def _copy(self, instruction: Copy) -> None:
        sources = tuple(self._expand(word) for word in instruction.sources)
        dest = self._expand(instruction.dest)
        if not dest or not all(sources):
            raise PlanError("COPY: a path is empty", span=instruction.span, hint="a variable without a value?")
        for word, source in zip(instruction.sources, sources, strict=True):
            try:
                for part in source.split("/"):
                    match_pattern(part, "")
            except PatternError as error:
                raise PlanError(f"COPY: {error}", span=word.span) from None
        # A flag whose variable is empty was not given.
        chown = (self._expand(instruction.chown) or None) if instruction.chown is not None else None
        mode_text = (self._expand(instruction.chmod) or None) if instruction.chmod is not None else None
        mode = None
        if mode_text is not None:
            assert instruction.chmod is not None
            if not _OCTAL.fullmatch(mode_text) or int(mode_text, 8) > 0o7777:
                raise PlanError(f"--chmod={mode_text}: expected an octal mode up to 7777", span=instruction.chmod.span)
            mode = int(mode_text, 8)
        from_stage = None
        if instruction.from_ is not None:
            from_stage = self._source(instruction.from_.text, instruction.span)
        absolute = self._state.absolute(dest)
        if dest.endswith("/") or posixpath.basename(dest) in (".", ".."):
            absolute = absolute.rstrip("/") + "/"
        step = CopyStep(sources, absolute, chown, mode, instruction.from_ is not None)
        self._add(step, instruction.span, instruction.text, (from_stage,) if instruction.from_ is not None else ())
        flags = [f"--chown={chown}"] if chown is not None else []
        flags += [f"--chmod={mode_text}"] if mode_text is not None else []
        self._remember(" ".join(["COPY", *flags, *sources, dest, "# buildkit"]), layer=True)

    def _source(self, name: str, span: Span) -> int | None:
        """The node that COPY --from reads: a stage's last one, or that of an image."""
        source = self._stage.sources[name]
        if isinstance(source, int):
            return self.stages[source].node
        if source.snapshot is None:
            return None
        known = self._images.get(source.manifest_digest)
        if known is None:
            known = self._images[source.manifest_digest] = len(self.nodes)
            stage = self._stage_name()
            self.nodes.append(Node(known, BaseStep(source), None, (), stage, self._number, span, f"FROM {name}"))
        return known

    def _workdir(self, instruction: Workdir) -> None:
        path = self._expand(instruction.path)
        if not path:
            raise PlanError(
                "WORKDIR: the path is empty", span=instruction.path.span, hint="a variable without a value?"
            )
        path = self._state.absolute(path)
        self._state = replace(self._state, config=replace(self._state.config, working_dir=path))
        if path != "/":
            self._add(WorkdirStep(path, self._state.config.user), instruction.span, instruction.text, ())
        self._remember(f"WORKDIR {path}", layer=path != "/")

    def _arg(self, instruction: Arg) -> None:
        texts = []
        platform = platform_args(self._options)
        for item in instruction.items:
            if item.name in self._options.build_args:
                value: str | None = self._options.build_args[item.name]
            elif item.default is not None:
                value = self._expand(item.default)
            else:
                value = self._resolved.global_args.get(item.name, platform.get(item.name))
            # Without any value it is what the stage knew before: what it inherited stays.
            self._state = self._state.with_arg(item.name, self._state.args.get(item.name) if value is None else value)
            texts.append(item.name if value is None else f"{item.name}={value}")
        self._remember("ARG " + " ".join(texts))

    def _expose(self, instruction: Expose) -> None:
        config = self._state.config
        words: list[str] = []
        for word in instruction.ports:
            try:
                words += expand_words(word.text, self._state.scope, escape=self._escape)
            except ExpansionError as error:
                raise PlanError(error.message, span=word.span) from None
        try:
            ports = parse_ports(words)
        except PortError as error:
            raise PlanError(str(error), span=instruction.span, hint=error.hint) from None
        self._config(
            replace(config, exposed_ports=tuple(sorted({*config.exposed_ports, *ports}))), f"EXPOSE [{' '.join(ports)}]"
        )
