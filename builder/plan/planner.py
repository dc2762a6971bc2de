"""From the resolved recipe to the plan. A pure function of the recipe and the options.

Instructions that make no layer only change the state of their stage. Each instruction except ONBUILD adds one line of
history, in BuildKit's form. Groups of instructions have modules of their own: run.py, copy.py, variables.py (ARG, ENV),
config.py (all that only change the image's config).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, assert_never

from pybuild.builder.errors import PlanError
from pybuild.builder.plan.config import plan_config
from pybuild.builder.plan.copy import plan_copy
from pybuild.builder.plan.draft import PlanDraft, StageNodes
from pybuild.builder.plan.graph import BaseStep, Plan, PlannedStage, WorkdirStep
from pybuild.builder.plan.history import HistoryEntry
from pybuild.builder.plan.no_cache_filter import fresh_stages
from pybuild.builder.plan.platforms import platform_of
from pybuild.builder.plan.run import plan_run
from pybuild.builder.plan.scope import PlannedStep, Scope, StateChange
from pybuild.builder.plan.stage_state import StageState
from pybuild.builder.plan.triggers import locate_trigger_errors
from pybuild.builder.plan.variables import plan_arg, plan_env
from pybuild.parser import (
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from pybuild.store.formats.oci_config import ExecConfig
from pybuild.values import frozen
from pybuild.values.redact import redact

if TYPE_CHECKING:
    from pybuild.builder.options import BuildOptions
    from pybuild.builder.plan.resolve import Resolved, ResolvedStage
    from pybuild.parser import Instruction, Span

    Inspect: TypeAlias = Callable[[ResolvedStage, Instruction, StageState], None]


@frozen
class Mistake:
    """An instruction that cannot be planned: one of the stage, or the FROM (`instruction` is then None).

    `again` plans the instruction with more variables, and returns the error or None. It changes nothing.
    """

    stage: ResolvedStage
    instruction: Instruction | None
    error: PlanError
    again: Callable[[Mapping[str, str]], PlanError | None]


def _stop(mistake: Mistake) -> None:
    raise mistake.error


def _same_error(error: PlanError, values: Mapping[str, str]) -> PlanError:
    """The error of a FROM, which uses no variables of the stage."""
    return error


def plan(
    resolved: Resolved,
    options: BuildOptions,
    inspect: Inspect | None = None,
    on_mistake: Callable[[Mistake], None] = _stop,
) -> Plan:
    """Plan all stages that the target needs. Raises PlanError at the first mistake in one of them.

    It calls `inspect` with each instruction of the recipe and the state before it, right before it plans the instruction.
    If `on_mistake` does not raise, a wrong instruction is left out; such a plan only serves to find further mistakes.
    """
    draft = PlanDraft()
    fresh = fresh_stages(resolved.buildfile, options)
    for index, stage in resolved.stages.items():  # each stage comes after those that it needs
        nodes = StageNodes(draft, resolved, stage, options, fresh=index in fresh)
        planner = _StagePlanner(draft, nodes, resolved, stage, options, on_mistake)
        draft.stages[index] = planner.plan(inspect)
    return Plan(tuple(draft.nodes), draft.stages, resolved.target)


class _StagePlanner:
    """Plans one stage: its base, the triggers of the base, its own instructions."""

    def __init__(
        self,
        draft: PlanDraft,
        nodes: StageNodes,
        resolved: Resolved,
        stage: ResolvedStage,
        options: BuildOptions,
        on_mistake: Callable[[Mistake], None],
    ) -> None:
        self._on_mistake = on_mistake
        self._nodes = nodes
        self._budget = draft.budget
        self._resolved = resolved
        self._stage = stage
        self._options = options
        self._escape = resolved.buildfile.escape
        self._number = 0  # of the last step, from 1
        self._trigger_of: Span | None = None  # the FROM, while the triggers of its base are planned
        self._node: int | None = None  # the last node
        self._history: list[HistoryEntry] = []
        if stage.parent is not None:
            before = draft.stages[stage.parent]
            self._platform, self._base, self._state = before.platform, before.base, before.state.derived()
            self._node = before.node
            self._history += before.history
        else:
            self._base = stage.image
            self._platform = platform_of(stage.image, stage.requested_platform or options.platform)
            self._state = StageState.of_base(
                stage.image.config.config if stage.image is not None else ExecConfig(working_dir="/"),
                windows=self._platform.os == "windows",
            )

    def plan(self, inspect: Inspect | None) -> PlannedStage:
        """Plan the whole stage. Raises PlanError."""
        try:
            if self._stage.parent is not None:
                self._check_platform()
            else:
                self._add_base()
            self._plan_triggers()
        except PlanError as error:
            self._on_mistake(Mistake(self._stage, None, error, partial(_same_error, error)))
        for instruction in self._stage.stage.instructions:
            if inspect is not None:
                inspect(self._stage, instruction, self._state)
            try:
                self._plan_instruction(instruction)
            except PlanError as error:
                self._on_mistake(Mistake(self._stage, instruction, error, partial(self._error_with, instruction)))
        return PlannedStage(self._node, self._state, self._base, tuple(self._history), self._platform)

    def _error_with(self, instruction: Instruction, values: Mapping[str, str]) -> PlanError | None:
        """The error of an instruction if these variables had these values. The state stays as it is."""
        before = self._state
        self._state = before.with_env(values)
        try:
            self._plan_instruction(instruction)
        except PlanError as error:
            return error
        finally:
            self._state = before
        return None

    def _check_platform(self) -> None:
        """Raise PlanError if --platform differs from the platform of the stage that this one starts FROM."""
        requested, word = self._stage.requested_platform, self._stage.stage.base.platform
        if requested is not None and word is not None and not requested.matches(self._platform):
            raise PlanError(
                f"--platform={requested}: the stage {self._stage.image_name} is for {self._platform}",
                span=word.span,
                hint="give --platform to the stage that starts from an image",
            )

    def _add_base(self) -> None:
        """Add the node of the image or the context that the stage starts from; scratch has none."""
        span, text = self._stage.stage.base.span, f"FROM {self._stage.image_name}"
        if self._base is not None and self._base.snapshot is not None:
            self._node = self._nodes.add(BaseStep(self._base), None, (), span, text, self._platform)
        if self._stage.files is not None:
            self._node = self._nodes.context_root(self._stage.files, span)
            self._history.append(HistoryEntry(text, self._node))

    def _plan_triggers(self) -> None:
        base = self._stage.stage.base
        self._trigger_of, self._escape = base.span, "\\"
        for instruction in self._stage.triggers:
            with locate_trigger_errors(base.image.span, self._stage.image_name):
                self._plan_instruction(instruction)
        self._trigger_of, self._escape = None, self._resolved.buildfile.escape

    def _plan_instruction(self, instruction: Instruction) -> None:
        scope = Scope(self._state, self._escape, self._options, self._nodes, self._budget)
        match instruction:
            case Run():
                self._add_layer(plan_run(instruction, scope), instruction)
            case Copy() | Add():
                self._add_layer(plan_copy(instruction, scope), instruction)
            case Workdir():
                self._workdir(instruction, scope)
            case Arg():
                self._change_state(plan_arg(instruction, scope, self._resolved.global_args))
            case Env():
                self._change_state(plan_env(instruction, scope))
            case (
                Label()
                | User()
                | Cmd()
                | Entrypoint()
                | Expose()
                | Volume()
                | Shell()
                | Stopsignal()
                | Healthcheck()
                | Maintainer()
                | Onbuild()
            ):
                self._change_state(plan_config(instruction, scope))
            case _:
                assert_never(instruction)

    def _add_layer(self, planned: PlannedStep, instruction: Instruction) -> None:
        self._number += 1
        span = self._trigger_of or instruction.span
        flags = instruction.flags if isinstance(instruction, Run) and self._trigger_of is None else ()
        self._node = self._nodes.add(
            planned.step,
            self._node,
            planned.sources,
            span,
            redact(instruction.text),
            self._platform,
            self._number,
            flags,
        )
        self._history.append(HistoryEntry(planned.history, self._node))

    def _change_state(self, change: StateChange) -> None:
        self._state = change.state
        if change.history is not None:
            self._history.append(HistoryEntry(change.history, None))

    def _workdir(self, instruction: Workdir, scope: Scope) -> None:
        """WORKDIR changes the state, and makes a layer unless the path is the root.

        As in BuildKit, config and history have an absolute path as it is written, and an empty one changes nothing.
        """
        text = scope.expand(instruction.path) or self._state.config.working_dir
        try:
            path = text if text.startswith("/") and not self._state.windows else self._state.absolute(text)
        except PlanError as error:
            raise error.at(instruction.path.span) from error
        shown = path.replace("/", "\\") if self._state.windows else path
        state = replace(self._state, config=replace(self._state.config, working_dir=shown))
        line = f"WORKDIR {path}"
        if path == "/":
            self._change_state(StateChange(state, line))
        else:
            self._change_state(StateChange(state, None))
            # The users of a Windows have no numbers: its files belong to Administrators.
            step = WorkdirStep(state.in_layers(state.absolute("")), "" if state.windows else state.config.user)
            self._add_layer(PlannedStep(step, (), line), instruction)
