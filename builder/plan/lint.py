"""Build checks that need more than the text of the recipe: the values of variables, the ignore file, or the bases.

Names and messages are BuildKit's, as in parser/checks. An `Inspector` sees each instruction right before it is planned;
`warnings_of` adds its warnings to those of the parser.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from pybuild.builder.errors import PlanError
from pybuild.builder.events import CheckWarning
from pybuild.builder.plan.check_build_args import unknown_build_args
from pybuild.builder.plan.check_copies import CopyChecks
from pybuild.builder.plan.empty_words import empty_words
from pybuild.builder.plan.platforms import platform_of
from pybuild.builder.plan.replaced_words import StateWords
from pybuild.builder.plan.resolve import expand_word, global_args
from pybuild.builder.plan.stage_state import HISTORY_ONLY_ARGS, StageState
from pybuild.builder.plan.unknown_values import UnknownValues, depends_on
from pybuild.builder.plan.windows import is_windows_path
from pybuild.builder.remote_source import is_remote
from pybuild.parser import (
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    ExpansionError,
    Expose,
    IgnoreFile,
    ParseError,
    ParseWarning,
    ShellForm,
    Span,
    Workdir,
    expand_words,
    read_checks,
    suggest,
)
from pybuild.parser.buildfile import MAX_OF_ONE_RULE
from pybuild.store.errors import InvalidImage
from pybuild.store.formats.oci_config import ExecConfig
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from pybuild.builder.events import Event
    from pybuild.builder.files.context_source import ContextSource
    from pybuild.builder.options import BuildOptions
    from pybuild.builder.plan.planner import Mistake
    from pybuild.builder.plan.resolve import Resolved, ResolvedStage
    from pybuild.parser import Buildfile, Checks, Instruction, RecordingScope, Word

_CHECK_ARG = "BUILDKIT_DOCKERFILE_CHECK"  # the build argument that overrides the recipe's `# check=`
_EVERYTHING = frozenset(("*", "**", "**/*"))  # lines of an ignore file that exclude everything


class Inspector:
    """Checks the instructions of a recipe, each with the state before it; `found` holds the warnings.

    `files` opens a context by its name; the main one is "". `missing` are the indexes of stages whose base is
    not known. A rule does not judge what depends on such a base. `plan` passes mistakes to `take_mistake`: those that
    remain whatever the bases are go into `mistakes`, others into `unjudged`.
    """

    def __init__(
        self,
        resolved: Resolved,
        options: BuildOptions,
        files: Callable[[str], ContextSource],
        missing: Collection[int] = (),
    ) -> None:
        self.found: list[ParseWarning] = []
        self.mistakes: list[PlanError] = []
        self.unjudged: list[tuple[Span, tuple[str, ...]]] = []  # instructions, with the unknown variables that they use
        self._resolved = resolved
        self.build_args = options.build_args
        self._escape = resolved.buildfile.escape
        self._ignored = files("").ignore
        self._copies = CopyChecks(resolved, files, self._value)
        self._unknown = UnknownValues(resolved, options.build_args, missing)
        self._at = StateWords(StageState(ExecConfig()), self._escape)  # the place of the last instruction
        self._used: tuple[str, ...] = ()  # the unknown variables of the last instruction
        self._with_workdir: set[int] = set()
        self._counts: Counter[str] = Counter()  # findings of each rule

    def __call__(self, stage: ResolvedStage, instruction: Instruction, state: StageState) -> None:
        """Check one instruction. Errors in it are ignored: the planner raises them right after."""
        self._at = StateWords(state, self._escape)
        self._used = self._unknown.in_instruction(stage, instruction, self._at)
        with suppress(ExpansionError, PlanError):
            self._check(stage, instruction, state)
        self._unknown.take(stage, instruction, self._at)

    def take_mistake(self, mistake: Mistake) -> None:
        """Note a mistake of the instruction that was inspected last, and go on."""
        instruction = mistake.instruction
        if instruction is not None and depends_on(mistake, self._used):
            self.unjudged.append((instruction.span, self._used))
        else:
            span = mistake.stage.stage.base.span if instruction is None else instruction.span
            self.mistakes.append(mistake.error.at(span))
        self._unknown.spoil(mistake)

    def _check(self, stage: ResolvedStage, instruction: Instruction, state: StageState) -> None:
        self._undefined_var(stage, instruction, state)
        for rule, text, word in empty_words(instruction, state, self._at):
            if self._known(stage, [word]):
                self._add(rule, text, word.span)
        match instruction:
            case Workdir(path=word):
                path = self._at.expand(word)
                is_absolute = path.startswith("/") or (state.windows and is_windows_path(path))
                if not self._used and not is_absolute and not self._descends_from(stage, self._with_workdir):
                    text = f'Relative workdir "{path}" can have unexpected results if the base image changes'
                    self._add("WorkdirRelativePath", text, instruction.span)
                self._with_workdir.add(stage.stage.index)
            case Cmd(command=ShellForm()) | Entrypoint(command=ShellForm()) if not state.config.shell:
                text = f"JSON arguments recommended for {instruction.keyword} to prevent unintended behavior related to OS signals"
                self._add("JSONArgsRecommended", text, instruction.span)
            case Expose(ports=words):
                for word in self._known(stage, words):
                    for port in expand_words(word.text, self._at.scope, escape=self._escape):
                        self._expose(port, instruction.span)
            case Copy(from_=None) | Add() if self._ignored:
                for word in self._known(stage, instruction.sources):
                    self._copy_ignored_file(instruction, self._at.expand(word))
            case _:
                pass
        for rule, text in self._copies.check(stage, instruction, state):
            self._add(rule, text, instruction.span)

    def _value(self, stage: ResolvedStage, word: Word) -> str | None:
        """The value of a word of the instruction; None if it uses an unknown variable. Raises PlanError."""
        return None if self._unknown.in_words(stage, [word], self._at) else self._at.expand(word)

    def _known(self, stage: ResolvedStage, words: Sequence[Word]) -> list[Word]:
        """The words that use no unknown variable."""
        return [word for word in words if not self._unknown.in_words(stage, [word], self._at)]

    @cached_property
    def _ignore(self) -> IgnoreFile:
        return IgnoreFile.parse(self._ignored or "")

    def _add(self, rule: str, message: str, span: Span) -> None:
        self._counts[rule] += 1
        if self._counts[rule] <= MAX_OF_ONE_RULE:
            self.found.append(ParseWarning(rule, message, span))

    def _descends_from(self, stage: ResolvedStage, indexes: Collection[int]) -> bool:
        """Whether one of these stages is the stage itself, or one that it starts FROM, directly or indirectly."""
        while stage.stage.index not in indexes:
            if stage.parent is None:
                return False
            stage = self._resolved.stages[stage.parent]
        return True

    def _undefined_var(self, stage: ResolvedStage, instruction: Instruction, state: StageState) -> None:
        """Warn about variables that nothing sets. As in BuildKit, the ports of an EXPOSE are not looked at."""
        if self._counts["UndefinedVar"] >= MAX_OF_ONE_RULE:
            return  # to look for a similar name takes longer than all other checks
        match instruction:
            case Expose():
                return
            case Arg():
                undefined = self._undefined_in_arg(instruction, state)
            case _:
                used = self._at.variables_of(instruction)
                undefined = dict.fromkeys(used.missing, used)
        for name, scope in undefined.items():
            if name in self._used or name in state.args or name in HISTORY_ONLY_ARGS:
                continue
            similar = suggest(name, scope)
            text = f"Usage of undefined variable '${name}'" + (f" (did you mean ${similar}?)" if similar else "")
            self._add("UndefinedVar", text, instruction.span)

    def _undefined_in_arg(self, instruction: Arg, state: StageState) -> dict[str, RecordingScope]:
        """The names that the defaults of an ARG look up in vain, each with the scope: an item sees the items before it.

        A build argument replaces the default, which is then not expanded.
        """
        undefined: dict[str, RecordingScope] = {}
        declared: set[str] = set()
        for item in instruction.items:
            value = self.build_args.get(item.name)
            if value is None and item.default is not None:
                at = StateWords(state, self._escape)
                used = at.variables_in([item.default])
                undefined |= {name: used for name in used.missing if name not in declared}
                value = at.expand(item.default)
            elif value is None:
                value = self._resolved.global_args.get(item.name)
            state = state.with_arg(item.name, state.args.get(item.name) if value is None else value)
            declared.add(item.name)
        return undefined

    def _expose(self, port: str, span: Span) -> None:
        numbers, _, protocol = port.partition("/")
        if protocol != protocol.lower():
            text = f"Defined protocol '{port}' in EXPOSE instruction should be lowercase"
            self._add("ExposeProtoCasing", text, span)
        if ":" in numbers:
            text = f"EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
            self._add("ExposeInvalidFormat", text, span)

    def _copy_ignored_file(self, instruction: Copy | Add, source: str) -> None:
        """Warn about an excluded source, unless the ignore file has a `!` line, which could include files below it."""
        ignore = self._ignore
        path = posixpath.normpath(source)
        if is_remote(source):
            return
        if not all(rule.exclude for rule in ignore.rules):
            return
        if path in (".", "/") and _EVERYTHING.isdisjoint(rule.line.text for rule in ignore.rules):
            return
        if ignore.excludes(path):
            text = f'Attempting to {instruction.keyword.capitalize()} file "{path}" that is excluded by .dockerignore'
            self._add("CopyIgnoredFile", text, instruction.span)


def _invalid_default_arg_in_from(buildfile: Buildfile, options: BuildOptions) -> Iterator[ParseWarning]:
    """A FROM whose name is empty or invalid without build arguments."""
    values = global_args(buildfile, replace(options, build_args={}))
    scope = {name: value for name, value in values.items() if value is not None}
    names = {"scratch", *(stage.name for stage in buildfile.stages)}
    for stage in buildfile.stages:
        word = stage.base.image
        name = expand_word(word, scope, buildfile.escape)
        try:
            if name.lower() not in names:
                Reference.parse(name)
        except InvalidImage:
            text = f"Default value for ARG {word.text} results in empty or invalid base image name"
            yield ParseWarning("InvalidDefaultArgInFrom", text, stage.base.span)


def _invalid_base_image_platform(resolved: Resolved, options: BuildOptions) -> Iterator[ParseWarning]:
    """A base is for another platform than the stage asks for, because the registry or the store has no better one."""
    for stage in resolved.stages.values():
        wanted = stage.requested_platform or options.platform
        actual = platform_of(stage.image, wanted)
        if (actual.os, actual.architecture) != (wanted.os, wanted.architecture):
            text = f'Base image {stage.image_name} was pulled with platform "{actual}", expected "{wanted}" for current build'
            yield ParseWarning("InvalidBaseImagePlatform", text, stage.stage.base.span)


def _platform_constants(buildfile: Buildfile) -> Iterator[ParseWarning]:
    """A FROM has a --platform without a variable, and the name of the stage does not name that platform."""
    for stage in buildfile.stages:
        word = stage.base.platform
        if word is None or "$" in word.text:
            continue
        with suppress(PlanError, InvalidImage):  # a wrong platform is reported as a mistake
            text = expand_word(word, {}, buildfile.escape)
            platform, name = Platform.parse(text), stage.name or ""
            if platform.os not in name and platform.architecture not in name:
                text = f'FROM --platform flag should not use constant value "{text}"'
                yield ParseWarning("FromPlatformFlagConstDisallowed", text, stage.base.span)


def warnings_of(inspector: Inspector, resolved: Resolved, options: BuildOptions) -> tuple[Sequence[ParseWarning], bool]:
    """All warnings about a recipe, and whether they fail the build (check=error=true). Raises PlanError."""
    buildfile = resolved.buildfile
    override = _check_argument(options)
    found = [*buildfile.warnings, *inspector.found, *_invalid_base_image_platform(resolved, options)]
    found += [*_platform_constants(buildfile), *unknown_build_args(resolved, options)]
    with suppress(PlanError):  # without build arguments a word cannot be expanded, so the default is unknown
        found += _invalid_default_arg_in_from(buildfile, options)
    if not found:
        return (), False
    # Imported late, because most builds have no warnings.
    from pybuild.parser.checks import OF_STAGES, select

    needed = [w for w in found if w.rule not in OF_STAGES or _stage_of(buildfile, w.span) in resolved.stages]
    checks = override or buildfile.checks
    selected = select(needed, buildfile, override)
    return selected, bool(selected) and checks is not None and checks.error


def report_warnings(
    inspector: Inspector, resolved: Resolved, options: BuildOptions, observe: Callable[[Event], None]
) -> None:
    """Send all warnings of a build to `observe`. Raises PlanError if they fail the build."""
    warnings, fatal = warnings_of(inspector, resolved, options)
    for warning in warnings:
        observe(CheckWarning(warning.rule, warning.message, resolved.buildfile.source, warning.span))
    if fatal:
        rules = ", ".join(sorted({warning.rule for warning in warnings}))
        raise PlanError(
            f"lint violation found for rules: {rules}", hint="check=error=true makes warnings fail the build"
        )


def _stage_of(buildfile: Buildfile, span: Span) -> int:
    """The index of the stage that a span is in; -1 before the first FROM."""
    return sum(stage.base.span.line <= span.line for stage in buildfile.stages) - 1


def _check_argument(options: BuildOptions) -> Checks | None:
    """The value of the build argument; None without it. Raises PlanError."""
    text = options.build_args.get(_CHECK_ARG)
    if not text:
        return None
    try:
        return read_checks(text, Span(1, 1, 1, 1))
    except ParseError as error:
        raise PlanError(f"--build-arg {_CHECK_ARG}={text}: {error.message}", hint=error.hint) from None
