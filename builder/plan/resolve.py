"""From the parsed recipe to the resolved one: the stages that the target needs, with the base image of each.

This is the only part of planning that does I/O: it asks for images and contexts. It does not resolve stages that the
target does not need, so pybuild finds only syntax errors in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from pybuild.builder.errors import NotCached, PlanError
from pybuild.builder.plan.expansion_limit import Budget
from pybuild.builder.plan.platforms import parse_platform, platform_args
from pybuild.builder.plan.triggers import locate_trigger_errors, read_triggers
from pybuild.builder.plan.unsupported import refuse_unsupported, stop
from pybuild.parser import Copy, ExpansionError, Onbuild, Run, expand, parse_trigger, suggest
from pybuild.remote.errors import RemoteError
from pybuild.store.errors import StoreError
from pybuild.store.formats.reference import Reference
from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.builder.options import BuildOptions
    from pybuild.parser import Buildfile, Instruction, Span, Stage, Word
    from pybuild.store.formats.platform import Platform
    from pybuild.store.objects.images import StoredImage


class ImageSource(Protocol):
    """Finds base images."""

    def image(self, reference: Reference, platform: Platform | None = None) -> StoredImage:
        """The image for `platform`; None: for the platform of the build. Raises BuildError, StoreError, RemoteError."""
        ...


@frozen
class ContextFiles:
    """The files of a context; the main context has the name "".

    `identity` identifies the content of a context that never changes, such as a git commit; it is "" for all others.
    """

    name: str
    identity: str = ""


class NamedContexts(Protocol):
    """The contexts of a build."""

    def main(self) -> ContextFiles: ...

    def find(self, name: str) -> StoredImage | ContextFiles | None:
        """The named context that replaces an image or a stage; None if there is none of this name.

        Raises BuildError, StoreError, RemoteError, OSError.
        """
        ...


class MainContext:
    """A build without named contexts."""

    def main(self) -> ContextFiles:
        return ContextFiles("")

    def find(self, name: str) -> StoredImage | ContextFiles | None:
        return None


@frozen
class ResolvedStage:
    """A stage that the target needs.

    Its base is `image`, or `parent` (the index of a stage), or `files` (a context). If all are None, it is `scratch`.
    """

    stage: Stage
    image: StoredImage | None
    image_name: str
    parent: int | None
    triggers: tuple[Instruction, ...]  # ONBUILD of the base; they run before the instructions of the stage
    # Text of COPY --from, or of `from` of a mount -> the index of a stage, an image, or a context.
    sources: Mapping[str, int | StoredImage | ContextFiles]
    files: ContextFiles | None = None
    requested_platform: Platform | None = None  # --platform of the FROM
    is_known: bool = True  # False after a mistake in the FROM that did not end the check of the recipe


@frozen
class Resolved:
    """The recipe with all bases. `stages` holds those that the target needs, by index, in the order of the recipe."""

    buildfile: Buildfile
    stages: Mapping[int, ResolvedStage]
    target: int
    global_args: Mapping[str, str | None]
    context: ContextFiles = ContextFiles("")  # the main context


def resolve(
    buildfile: Buildfile,
    options: BuildOptions,
    images: ImageSource,
    read_trigger: Callable[[str], Instruction] = parse_trigger,
    contexts: NamedContexts | None = None,
    *,
    all_stages: bool = False,
    on_error: Callable[[PlanError], None] = stop,
) -> Resolved:
    """Resolve the stages that the target needs, or `all_stages`. Raises BuildError, OSError.

    `read_trigger` parses the ONBUILD texts of bases. Errors of the store and of remote/ become a PlanError here.
    `on_error` takes each mistake of the recipe; if it does not raise, what the mistake concerns stays unknown.
    """
    refuse_unsupported(buildfile, on_error)
    contexts = contexts or MainContext()
    values = global_args(buildfile, options, on_error)
    target = _target(buildfile, options.target)
    found: dict[int, ResolvedStage] = {}
    pending = [stage.index for stage in buildfile.stages] if all_stages else [target]
    while pending:
        index = pending.pop()
        if index in found:
            continue
        stage = buildfile.stages[index]
        resolved = _resolve_stage(buildfile, stage, values, images, contexts, read_trigger, on_error)
        found[index] = resolved
        pending += [source for source in resolved.sources.values() if isinstance(source, int)]
        if resolved.parent is not None:
            pending.append(resolved.parent)
    return Resolved(buildfile, {index: found[index] for index in sorted(found)}, target, values, contexts.main())


def expand_word(word: Word, scope: Mapping[str, str], escape: str, budget: Budget | None = None) -> str:
    """A word of the recipe with its variables replaced, counted in `budget`. Raises PlanError at the word."""
    try:
        text = expand(word.text, scope, escape=escape)
    except ExpansionError as error:
        raise PlanError(error.message, span=word.span, hint=error.hint) from None
    return text if budget is None else budget.expansion(text, word.span)


def global_args(
    buildfile: Buildfile, options: BuildOptions, on_error: Callable[[PlanError], None] = stop
) -> dict[str, str | None]:
    """The ARGs before the first FROM and the predefined ones; an ARG without a value is None. Raises PlanError.

    `on_error` takes each mistake in a default; if it does not raise, that ARG has no value.
    """
    values: dict[str, str | None] = {**platform_args(options)}
    for name in list(values):
        if name in options.build_args:
            values[name] = options.build_args[name]
    budget = Budget()
    for arg in buildfile.args:
        for item in arg.items:
            scope = {name: value for name, value in values.items() if value is not None}
            if item.name in options.build_args:
                values[item.name] = options.build_args[item.name]
            elif item.default is not None:
                try:
                    values[item.name] = expand_word(item.default, scope, buildfile.escape, budget)
                except PlanError as error:
                    on_error(error)
                    values[item.name] = None
            else:
                values.setdefault(item.name, None)
    return values


def _target(buildfile: Buildfile, name: str | None) -> int:
    if name is None:
        return len(buildfile.stages) - 1
    for stage in reversed(buildfile.stages):
        if stage.name == name.lower():
            return stage.index
    number = _index(name)
    if number is not None and number < len(buildfile.stages):
        return number
    names = [stage.name for stage in buildfile.stages if stage.name]
    similar = suggest(name.lower(), names)
    hint = (
        f"did you mean {similar}?"
        if similar
        else f"the stages are: {', '.join(names)}"
        if names
        else "no stage has a name"
    )
    raise PlanError(f"target stage {name!r} is not in the recipe", hint=hint)


def _resolve_stage(
    buildfile: Buildfile,
    stage: Stage,
    global_args: Mapping[str, str | None],
    images: ImageSource,
    contexts: NamedContexts,
    read_trigger: Callable[[str], Instruction],
    on_error: Callable[[PlanError], None],
) -> ResolvedStage:
    if stage.name is not None and (replacement := _named_context(contexts, stage.name, stage.base.span)) is not None:
        # A named context replaces the whole stage, with its base and its instructions.
        image, files = (None, replacement) if isinstance(replacement, ContextFiles) else (replacement, None)
        return ResolvedStage(replace(stage, instructions=()), image, stage.name, None, (), {}, files)
    scope = {name: value for name, value in global_args.items() if value is not None}
    word = stage.base.image
    origins = _CopyOrigins(buildfile, stage, scope, images, contexts, on_error)
    try:
        base = _resolve_base(buildfile, stage, scope, images, contexts, read_trigger)
        with locate_trigger_errors(word.span, base.image_name):
            sources = replace(origins, on_error=stop).sources(base.triggers, "\\")
    except PlanError as error:
        on_error(error)
        base, sources = ResolvedStage(stage, None, word.text, None, (), {}, is_known=False), {}
    return replace(base, sources=sources | origins.sources(stage.instructions, buildfile.escape))


def _resolve_base(
    buildfile: Buildfile,
    stage: Stage,
    scope: Mapping[str, str],
    images: ImageSource,
    contexts: NamedContexts,
    read_trigger: Callable[[str], Instruction],
) -> ResolvedStage:
    """The stage with its base, and without the sources of its instructions. Raises PlanError."""
    word = stage.base.image
    name = expand_word(word, scope, buildfile.escape)
    if not name:
        raise PlanError(
            f"FROM {word.text}: the name is empty", span=word.span, hint="give the ARG a default, or use --build-arg"
        )
    platform = _requested_platform(stage, scope, buildfile.escape)
    parent = _stage_before(buildfile, stage, name)
    named = _named_context(contexts, name, word.span)
    image, files = (None, named) if isinstance(named, ContextFiles) else (named, None)
    if named is not None:
        parent = None
    elif parent is None and name != "scratch":
        image = _image(images, name, word.span, platform)
    texts: tuple[str, ...] = ()
    if image is not None:
        texts = image.config.config.on_build
    elif parent is not None:
        texts = tuple(i.trigger for i in buildfile.stages[parent].instructions if isinstance(i, Onbuild))
    triggers = read_triggers(texts, name, word.span, read_trigger)
    return ResolvedStage(stage, image, name, parent, triggers, {}, files, platform)


def _stage_before(buildfile: Buildfile, stage: Stage, name: str) -> int | None:
    """The index of the last stage before this one that has the name; None if there is none."""
    for other in reversed(buildfile.stages[: stage.index]):
        if other.name is not None and other.name == name.lower():
            return other.index
    return None


def _index(text: str) -> int | None:
    """The number of a stage; None if the text is not a number, or has more digits than any stage number."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _requested_platform(stage: Stage, scope: Mapping[str, str], escape: str) -> Platform | None:
    """The value of --platform; None without the flag. Raises PlanError."""
    word = stage.base.platform
    if word is None:
        return None
    text = expand_word(word, scope, escape)
    if not text:
        raise PlanError(f"--platform={word.text}: the variable has no value", span=word.span)
    return parse_platform(text, word.span)


def _image(images: ImageSource, name: str, span: Span, platform: Platform | None = None) -> StoredImage:
    with _locate_errors(name, span):
        return images.image(Reference.parse(name), platform)


def _named_context(contexts: NamedContexts, name: str, span: Span) -> StoredImage | ContextFiles | None:
    with _locate_errors(name, span):
        return contexts.find(name)


@contextmanager
def _locate_errors(name: str, span: Span) -> Iterator[None]:
    """Report errors of the store and of remote/ at the span of a name, and add the name to the message."""
    try:
        yield
    except NotCached as error:
        raise error.at(span) from error
    except (StoreError, RemoteError) as error:
        prefix = "" if name in str(error) else f"{name}: "
        raise PlanError(f"{prefix}{error}", span=span, hint=error.hint) from error


def _from_flags(instruction: Instruction) -> Iterator[tuple[str, Word]]:
    """Each flag of an instruction that names a source of files: its text up to the name, for messages, and the name."""
    match instruction:
        case Copy(from_=word) if word is not None:
            yield "COPY --from=", word
        case Run(mounts=mounts):
            for mount in mounts:
                if (word := mount.option("from")) is not None and word.text:
                    yield f"RUN --mount=type={mount.type},from=", word
        case _:
            pass


@frozen
class _CopyOrigins:
    """Finds the stages, images and contexts from which the instructions of a stage copy or mount files."""

    buildfile: Buildfile
    stage: Stage
    scope: Mapping[str, str]  # the ARGs before the first FROM that have a value
    images: ImageSource
    contexts: NamedContexts
    on_error: Callable[[PlanError], None]

    def sources(self, instructions: Sequence[Instruction], escape: str) -> dict[str, int | StoredImage | ContextFiles]:
        """Text of each COPY --from, and of each `from` of a mount -> the source that it names. Raises PlanError.

        If `on_error` does not raise, an empty context stands for a source that cannot be found.
        """
        found: dict[str, int | StoredImage | ContextFiles] = {}
        for instruction in instructions:
            for flag, word in _from_flags(instruction):
                try:
                    found[word.text] = self._source(self._name(word, flag, escape), flag, word.span)
                except PlanError as error:
                    self.on_error(error)
                    found[word.text] = ContextFiles("")
        return found

    def _name(self, word: Word, flag: str, escape: str) -> str:
        """The name with its variables replaced. As in a FROM, only global ARGs have values: no stage is planned yet."""
        if "$" not in word.text:
            return word.text
        name = expand_word(word, self.scope, escape)
        if not name:
            raise PlanError(
                f"{flag}{word.text}: the name is empty",
                span=word.span,
                hint="only ARGs before the first FROM can be used here; give the ARG a default, or use --build-arg",
            )
        return name

    def _source(self, name: str, flag: str, span: Span) -> int | StoredImage | ContextFiles:
        """The source with this name: the number of an earlier stage, from 0; else a named context; else the name of an
        earlier stage; else an image. Raises PlanError.
        """
        stages, stage = self.buildfile.stages, self.stage
        if (number := _index(name)) is not None:
            if number < stage.index:
                return number
            raise PlanError(f"{flag}{name}: there is no stage {name} before this one", span=span)
        if (named := _named_context(self.contexts, name, span)) is not None:
            return named
        before = _stage_before(self.buildfile, stage, name)
        if before is not None:
            return before
        if any(other.name == name.lower() for other in stages):
            raise PlanError(f"{flag}{name}: stage {name} does not come before this one", span=span)
        try:
            return _image(self.images, name, span)
        except PlanError as error:
            similar = suggest(name.lower(), [other.name for other in stages[: stage.index] if other.name])
            if similar:
                raise error.hinting(f"did you mean the stage {similar}?") from error
            raise
