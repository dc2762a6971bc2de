"""From the resolved recipe to the plan. A pure function of the recipe and the options.

Instructions that make no layer are folded into the state of their stage. Each instruction leaves one line of history, in
the form that BuildKit gives it. What RUN and COPY come to is decided in rooms of their own: plan_run.py, plan_copy.py.
"""

from __future__ import annotations

import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias, assert_never

from pybuild.builder.errors import PlanError
from pybuild.builder.plan.copy import literal_pattern, plan_copy
from pybuild.builder.plan.expansion_limit import Budget
from pybuild.builder.plan.graph import FILES_PATH, BaseStep, CopyStep, Node, Plan, PlannedStage, WorkdirStep
from pybuild.builder.plan.history import HistoryEntry, command_list, healthcheck_line
from pybuild.builder.plan.no_cache_filter import fresh_stages
from pybuild.builder.plan.platforms import platform_args, platform_of
from pybuild.builder.plan.resolve import ContextFiles, trigger_located
from pybuild.builder.plan.run import plan_run
from pybuild.builder.plan.scope import Files, PlannedStep, Scope
from pybuild.builder.plan.stage_state import StageState
from pybuild.parser import (
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
    PortError,
    Run,
    Shell,
    ShellForm,
    Stopsignal,
    User,
    Volume,
    Workdir,
    expand_words,
    parse_ports,
    valid_signal,
)
from pybuild.store.formats.oci_config import ExecConfig
from pybuild.values.redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.builder.options import BuildOptions
    from pybuild.builder.plan.graph import Step
    from pybuild.builder.plan.resolve import Resolved, ResolvedStage
    from pybuild.parser import Instruction, Span
    from pybuild.store.formats.bounded_json import Json
    from pybuild.store.formats.digest import Digest
    from pybuild.store.formats.platform import Platform

    Inspect: TypeAlias = Callable[[ResolvedStage, Instruction, StageState], None]


def plan(resolved: Resolved, options: BuildOptions, inspect: Inspect | None = None) -> Plan:
    """Take every text decision. Raises PlanError at the first mistake in a stage that the target needs.

    `inspect` is shown each instruction of the recipe, and the state that it meets, before it is planned.
    """
    planner = _Planner(resolved, options, inspect)
    for index, stage in resolved.stages.items():
        planner.stage(index, stage)
    return Plan(tuple(planner.nodes), planner.stages, resolved.target)


class _Planner:
    def __init__(self, resolved: Resolved, options: BuildOptions, inspect: Inspect | None) -> None:
        self._resolved = resolved
        self._options = options
        self._inspect = inspect
        self._budget = Budget()
        self._escape = resolved.buildfile.escape
        self._fresh = fresh_stages(resolved.buildfile, options)
        self.nodes: list[Node] = []
        self.stages: dict[int, PlannedStage] = {}
        self._images: dict[Digest, int] = {}  # nodes of images that are copied from
        self._contexts: dict[tuple[str, str], int] = {}  # nodes of the files of a context, of all or of those at a path
        self._stage: ResolvedStage
        self._state: StageState
        self._node: int | None
        self._platform: Platform
        self._history: list[HistoryEntry]
        self._number = 0
        self._trigger_of: Span | None = None  # the FROM whose base's triggers are being planned

    def stage(self, index: int, resolved: ResolvedStage) -> None:
        """Plan one stage; those it needs have been planned before."""
        self._stage = resolved
        self._number = 0
        if resolved.parent is not None:
            before = self.stages[resolved.parent]
            self._platform = before.platform
            self._check_platform(resolved)
            self._state, self._node, base = before.state.derived(), before.node, before.base
            self._history = list(before.history)
        else:
            base = resolved.image
            self._platform = platform_of(base, resolved.asked or self._options.platform)
            self._state = StageState.of_base(base.config.config if base is not None else ExecConfig())
            self._node = None
            self._history = []
            if base is not None and base.snapshot is not None:
                self._add(BaseStep(base), resolved.stage.base.span, f"FROM {resolved.image_name}", (), counts=False)
            if resolved.files is not None:
                self._node = self._files(resolved.files, resolved.stage.base.span)
                self._remember(f"FROM {resolved.image_name}", layer=True)
        self._trigger_of, self._escape = resolved.stage.base.span, "\\"
        for instruction in resolved.triggers:
            with trigger_located(resolved.stage.base.image.span, resolved.image_name):
                self._instruction(instruction)
        self._trigger_of, self._escape = None, self._resolved.buildfile.escape
        for instruction in resolved.stage.instructions:
            if self._inspect is not None:
                self._inspect(resolved, instruction, self._state)
            self._instruction(instruction)
        self.stages[index] = PlannedStage(self._node, self._state, base, tuple(self._history), self._platform)

    def _add(self, step: Step, span: Span, text: str, sources: tuple[int | None, ...], *, counts: bool = True) -> None:
        self._number += counts
        number = self._number if counts else 0
        self._node = self._append(step, self._node, sources, span, text, self._platform, number)

    def _append(
        self, step: Step, parent: int | None, sources: tuple[int | None, ...], span: Span, text: str, platform: Platform,
        number: int = 0,
    ) -> int:  # fmt: skip
        id = len(self.nodes)
        fresh = self._stage.stage.index in self._fresh
        self.nodes.append(Node(id, step, parent, sources, self._stage_name(), number, span, text, platform, fresh))
        return id

    def _check_platform(self, resolved: ResolvedStage) -> None:
        """A stage on another one is for what that is for."""
        asked, word = resolved.asked, resolved.stage.base.platform
        if asked is not None and word is not None and not asked.matches(self._platform):
            raise PlanError(
                f"--platform={asked}: the stage {resolved.image_name} is for {self._platform}",
                span=word.span,
                hint="what a stage is for is said where it begins from an image",
            )

    def _stage_name(self) -> str:
        stage = self._resolved.buildfile.stages[self._stage.stage.index]
        return stage.name or f"stage-{stage.index}"

    def _remember(self, text: str, *, layer: bool = False) -> None:
        self._history.append(HistoryEntry(text, self._node if layer else None))

    def _scope(self) -> Scope:
        names = (self._source, self._context, self._files_of)
        return Scope(self._state, self._escape, self._options, *names, self._budget)

    def _layer(self, planned: PlannedStep, instruction: Instruction) -> None:
        self._add(planned.step, self._trigger_of or instruction.span, redact(instruction.text), planned.sources)
        self._remember(planned.history, layer=True)

    def _config(self, config: ExecConfig, text: str) -> None:
        self._state = replace(self._state, config=config)
        self._remember(text)

    def _instruction(self, instruction: Instruction) -> None:
        config = self._state.config
        match instruction:
            case Run():
                self._layer(plan_run(instruction, self._scope()), instruction)
            case Copy() | Add():
                self._layer(plan_copy(instruction, self._scope()), instruction)
            case Workdir():
                self._workdir(instruction)
            case Arg():
                self._arg(instruction)
            case Env(pairs=pairs):
                values = [(self._scope().expand(name), self._scope().expand(value)) for name, value in pairs]
                for (word, _), (name, _) in zip(pairs, values, strict=True):
                    if not name:
                        raise PlanError("ENV: the name is empty", span=word.span, hint="a variable without a value?")
                self._state = self._state.with_env(dict(values))
                self._remember("ENV " + " ".join(f"{name}={value}" for name, value in values))
            case Label(pairs=pairs):
                values = [(self._scope().expand(name), self._scope().expand(value)) for name, value in pairs]
                text = "LABEL " + " ".join(f"{name}={value}" for name, value in values)
                self._config(replace(config, labels={**config.labels, **dict(values)}), text)
            case User(user=word):
                user = self._scope().expand(word)
                if not user:
                    raise PlanError("USER: the name is empty", span=word.span)
                self._config(replace(config, user=user), f"USER {user}")
            case Cmd(command=command):
                argv = self._scope().argv(command)
                self._state = replace(self._state, has_own_cmd=True)
                self._config(replace(config, cmd=argv, args_escaped=True), f"CMD {command_list(argv)}")
            case Entrypoint(command=command):
                argv = self._scope().argv(command)
                cmd = config.cmd if self._state.has_own_cmd else None
                self._config(replace(config, entrypoint=argv, cmd=cmd), f"ENTRYPOINT {command_list(argv)}")
            case Expose():
                self._expose(instruction)
            case Volume(paths=words):
                volumes = [self._scope().expand(word) for word in words]
                if not all(volume.strip() for volume in volumes):
                    raise PlanError("VOLUME: a path is empty", span=instruction.span)
                self._config(
                    replace(config, volumes=tuple(sorted({*config.volumes, *volumes}))), f"VOLUME [{' '.join(volumes)}]"
                )
            case Shell(argv=argv):
                self._config(replace(config, shell=argv), f"SHELL [{' '.join(argv)}]")
            case Stopsignal(signal=word):
                signal = self._scope().expand(word)
                if not valid_signal(signal):
                    raise PlanError(
                        f"STOPSIGNAL {signal}: no such signal",
                        span=word.span,
                        hint="a name such as SIGTERM, or a number",
                    )
                self._config(replace(config, stop_signal=signal), f"STOPSIGNAL {signal}")
            case Healthcheck():
                self._healthcheck(instruction)
            case Maintainer(name=name):
                self._state = replace(self._state, author=name)
                self._remember(f"MAINTAINER {name}")
            case Onbuild(trigger=trigger):
                self._state = replace(self._state, config=replace(config, on_build=(*config.on_build, trigger)))
            case _:
                assert_never(instruction)

    def _source(self, name: str, span: Span) -> int | None:
        """The node that COPY --from reads: a stage's last one, or that of an image."""
        source = self._stage.sources[name]
        if isinstance(source, int):
            return self.stages[source].node
        if isinstance(source, ContextFiles):
            return self._files(source, span)
        if source.snapshot is None:
            return None
        known = self._images.get(source.manifest_digest)
        if known is None:
            platform = platform_of(source, self._options.platform)
            known = self._append(BaseStep(source), None, (), span, f"FROM {name}", platform)
            self._images[source.manifest_digest] = known
        return known

    def _context(self, name: str | None) -> ContextFiles | None:
        """The context that COPY --from names, or the main one."""
        source = self._resolved.context if name is None else self._stage.sources[name]
        return source if isinstance(source, ContextFiles) else None

    def _files(self, files: ContextFiles, span: Span, source: str = ".") -> int:
        """The node of a context as a root filesystem: of all of it, or of what is at a path."""
        known = self._contexts.get((files.name, source))
        if known is None:
            dest = "/" if source == "." else FILES_PATH
            step = CopyStep(
                (literal_pattern(source),), dest, None, None, False, context=files.name, identity=files.identity
            )
            text = f"FROM {files.name or 'the context'}" + (f" {source}" if source != "." else "")
            known = self._append(step, None, (), span, text, self._options.platform)
            self._contexts[(files.name, source)] = known
        return known

    def _files_of(self, files: ContextFiles, source: str, span: Span) -> Files:
        path = posixpath.normpath("/" + source).lstrip("/")
        return Files(self._files(files, span, path), FILES_PATH) if path else Files(self._files(files, span), "/")

    def _workdir(self, instruction: Workdir) -> None:
        path = self._scope().expand(instruction.path)
        if not path:
            raise PlanError(
                "WORKDIR: the path is empty", span=instruction.path.span, hint="a variable without a value?"
            )
        path = self._state.absolute(path)
        self._state = replace(self._state, config=replace(self._state.config, working_dir=path))
        line = f"WORKDIR {path}"
        if path == "/":
            self._remember(line)
        else:
            self._layer(PlannedStep(WorkdirStep(path, self._state.config.user), (), line), instruction)

    def _arg(self, instruction: Arg) -> None:
        texts = []
        platform = platform_args(self._options)
        for item in instruction.items:
            if item.name in self._options.build_args:
                value: str | None = self._options.build_args[item.name]
            elif item.default is not None:
                value = self._scope().expand(item.default)
            else:
                value = self._resolved.global_args.get(item.name, platform.get(item.name))
            # Without any value it is what the stage knew before: what it inherited stays.
            self._state = self._state.with_arg(item.name, self._state.args.get(item.name) if value is None else value)
            texts.append(item.name if value is None else f"{item.name}={value}")
        self._remember("ARG " + " ".join(texts))

    def _healthcheck(self, instruction: Healthcheck) -> None:
        match instruction.command:
            case None:
                test: tuple[str, ...] = ("NONE",)
            case ExecForm(argv=argv):
                test = ("CMD", *argv)
            case ShellForm(text=text):
                test = ("CMD-SHELL", text)
            case _:
                assert_never(instruction.command)
        times = {
            "Interval": instruction.interval or 0,
            "Timeout": instruction.timeout or 0,
            "StartPeriod": instruction.start_period or 0,
            "StartInterval": instruction.start_interval or 0,
        }
        retries = instruction.retries or 0
        fields: dict[str, Json] = {"Test": list(test), **times, "Retries": retries}
        self._config(
            replace(self._state.config, healthcheck={name: value for name, value in fields.items() if value}),
            healthcheck_line(test, times, retries),
        )

    def _expose(self, instruction: Expose) -> None:
        config = self._state.config
        words: list[str] = []
        for word in instruction.ports:
            try:
                found = expand_words(word.text, self._state.scope, escape=self._escape)
            except ExpansionError as error:
                raise PlanError(error.message, span=word.span) from None
            words += (self._budget.expansion(port, word.span) for port in found)
        try:
            ports = parse_ports(words)
        except PortError as error:
            raise PlanError(str(error), span=instruction.span, hint=error.hint) from None
        self._config(
            replace(config, exposed_ports=tuple(sorted({*config.exposed_ports, *ports}))), f"EXPOSE [{' '.join(ports)}]"
        )
