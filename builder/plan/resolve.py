"""From the parsed recipe to one whose bases are known: which stages are needed, and which image each starts from.

This is the only part of planning that asks the outside. Stages that the target does not need are not resolved, and
mistakes in their text beyond syntax are not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from pybuild.builder.errors import NotCached, PlanError
from pybuild.builder.plan.expansion_limit import Budget
from pybuild.builder.plan.platforms import parse_platform, platform_args
from pybuild.builder.plan.unsupported import refuse_instruction, refuse_unsupported
from pybuild.parser import Copy, ExpansionError, Onbuild, ParseError, Run, expand, parse_trigger, suggest
from pybuild.remote.errors import RemoteError
from pybuild.store.errors import StoreError
from pybuild.store.formats.reference import Reference
from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.builder.options import BuildOptions
    from pybuild.parser import Buildfile, Instruction, Span, Stage, Word
    from pybuild.store.formats.platform import Platform
    from pybuild.store.objects.images import StoredImage

_MAX_TRIGGERS = 1_000


class ImageSource(Protocol):
    """Where base images come from."""

    def image(self, reference: Reference, platform: Platform | None = None) -> StoredImage:
        """The image of that name, for this platform, else for that of the build. Raises StoreError."""
        ...


@frozen
class ContextFiles:
    """The files of a context; the main one has the name "". `identity` tells which they are where they can never change."""

    name: str
    identity: str = ""


class NamedContexts(Protocol):
    """The contexts of a build."""

    def main(self) -> ContextFiles: ...

    def find(self, name: str) -> StoredImage | ContextFiles | None:
        """What stands in the place of an image or a stage of this name, if anything. Raises BuildError, StoreError."""
        ...


class MainContext:
    """A build without named contexts."""

    def main(self) -> ContextFiles:
        return ContextFiles("")

    def find(self, name: str) -> StoredImage | ContextFiles | None:
        return None


@frozen
class ResolvedStage:
    """A needed stage. Its base is an image, another stage (by index), a context, or, with none of them, nothing: `scratch`."""

    stage: Stage
    image: StoredImage | None
    image_name: str
    parent: int | None
    triggers: tuple[Instruction, ...]  # of the base, to be run before the stage's own
    # What COPY --from says -> the index of the stage, the image, or the context.
    sources: Mapping[str, int | StoredImage | ContextFiles]
    files: ContextFiles | None = None
    asked: Platform | None = None  # by --platform


@frozen
class Resolved:
    """The recipe with every base known; `stages` holds the needed ones, in order."""

    buildfile: Buildfile
    stages: Mapping[int, ResolvedStage]
    target: int
    global_args: Mapping[str, str | None]
    context: ContextFiles = ContextFiles("")  # the main one


def resolve(
    buildfile: Buildfile,
    options: BuildOptions,
    images: ImageSource,
    read_trigger: Callable[[str], Instruction] = parse_trigger,
    contexts: NamedContexts | None = None,
    *,
    all_stages: bool = False,
) -> Resolved:
    """Find what the target needs, or `all_stages`. Raises PlanError where a stage or an image cannot be found.

    `read_trigger` parses the ONBUILD texts of bases; it may know them from earlier.
    """
    refuse_unsupported(buildfile)
    contexts = contexts or MainContext()
    values = global_args(buildfile, options)
    target = _target(buildfile, options.target)
    found: dict[int, ResolvedStage] = {}
    pending = [stage.index for stage in buildfile.stages] if all_stages else [target]
    while pending:
        index = pending.pop()
        if index in found:
            continue
        resolved = _resolve_stage(buildfile, buildfile.stages[index], values, images, contexts, read_trigger)
        found[index] = resolved
        pending += [source for source in resolved.sources.values() if isinstance(source, int)]
        if resolved.parent is not None:
            pending.append(resolved.parent)
    return Resolved(buildfile, {index: found[index] for index in sorted(found)}, target, values, contexts.main())


def expand_word(word: Word, scope: Mapping[str, str], escape: str, budget: Budget | None = None) -> str:
    """Expand a word of the recipe, and take it out of the budget; an error is placed at the word."""
    try:
        text = expand(word.text, scope, escape=escape)
    except ExpansionError as error:
        raise PlanError(error.message, span=word.span, hint=getattr(error, "hint", None)) from None
    return text if budget is None else budget.expansion(text, word.span)


def global_args(buildfile: Buildfile, options: BuildOptions) -> dict[str, str | None]:
    """The ARGs before the first FROM, and those about platforms; None for one without a value. Raises PlanError."""
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
                values[item.name] = expand_word(item.default, scope, buildfile.escape, budget)
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
) -> ResolvedStage:
    if stage.name is not None and (own := _named(contexts, stage.name, stage.base.span)) is not None:
        # Nothing of what the recipe says about such a stage counts.
        image, files = (None, own) if isinstance(own, ContextFiles) else (own, None)
        return ResolvedStage(replace(stage, instructions=()), image, stage.name, None, (), {}, files)
    scope = {name: value for name, value in global_args.items() if value is not None}
    word = stage.base.image
    name = expand_word(word, scope, buildfile.escape)
    if not name:
        raise PlanError(
            f"FROM {word.text}: the name is empty", span=word.span, hint="give the ARG a default, or use --build-arg"
        )
    asked = _asked_platform(stage, scope, buildfile.escape)
    parent = _stage_before(buildfile, stage, name)
    named = _named(contexts, name, word.span)
    image, files = (None, named) if isinstance(named, ContextFiles) else (named, None)
    if named is not None:
        parent = None
    elif parent is None and name != "scratch":
        image = _image(images, name, word.span, asked)
    texts: tuple[str, ...] = ()
    if image is not None:
        texts = image.config.config.on_build
    elif parent is not None:
        texts = tuple(i.trigger for i in buildfile.stages[parent].instructions if isinstance(i, Onbuild))
    triggers = _triggers(texts, name, word.span, read_trigger)
    places = _CopyOrigins(buildfile, stage, scope, images, contexts)
    with trigger_located(word.span, name):
        sources = places.sources(triggers, "\\")
    sources |= places.sources(stage.instructions, buildfile.escape)
    return ResolvedStage(stage, image, name, parent, triggers, sources, files, asked)


def _triggers(
    texts: Sequence[str], name: str, span: Span, read_trigger: Callable[[str], Instruction]
) -> tuple[Instruction, ...]:
    if len(texts) > _MAX_TRIGGERS:
        raise PlanError(f"{name}: {len(texts)} ONBUILD triggers exceed the limit of {_MAX_TRIGGERS}", span=span)
    found = []
    for text in texts:
        with trigger_located(span, name):
            try:
                found.append(read_trigger(text))
            except ParseError as error:
                raise PlanError(f"{text[:200]!r}: {error.message}", hint=error.hint) from None
            refuse_instruction(found[-1])
    return tuple(found)


@contextmanager
def trigger_located(span: Span, name: str) -> Iterator[None]:
    """Place errors about a base's triggers at the FROM: their own text is not in the recipe."""
    try:
        yield
    except PlanError as error:
        raise PlanError(f"ONBUILD trigger of {name}: {error}", span=span, hint=error.hint) from None


def _stage_before(buildfile: Buildfile, stage: Stage, name: str) -> int | None:
    for other in reversed(buildfile.stages[: stage.index]):
        if other.name is not None and other.name == name.lower():
            return other.index
    return None


def _index(text: str) -> int | None:
    """A stage's number; None for what is no number, or has more digits than any stage."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _asked_platform(stage: Stage, scope: Mapping[str, str], escape: str) -> Platform | None:
    """What --platform says."""
    word = stage.base.platform
    if word is None:
        return None
    text = expand_word(word, scope, escape)
    if not text:
        raise PlanError(f"--platform={word.text}: a variable without a value", span=word.span)
    return parse_platform(text, word.span)


def _image(images: ImageSource, name: str, span: Span, platform: Platform | None = None) -> StoredImage:
    with _about(name, span):
        return images.image(Reference.parse(name), platform)


def _named(contexts: NamedContexts, name: str, span: Span) -> StoredImage | ContextFiles | None:
    with _about(name, span):
        return contexts.find(name)


@contextmanager
def _about(name: str, span: Span) -> Iterator[None]:
    """Errors of the store are told with the name that the recipe uses, at its place."""
    try:
        yield
    except NotCached as error:
        raise error.at(span) from error
    except (StoreError, RemoteError) as error:
        about = "" if name in str(error) else f"{name}: "
        raise PlanError(f"{about}{error}", span=span, hint=error.hint) from error


def _froms(instruction: Instruction) -> Iterator[tuple[str, Word]]:
    """How an instruction says where it takes files from, and the name it gives."""
    match instruction:
        case Copy(from_=word) if word is not None:
            yield "COPY --from=", word
        case Run(mounts=mounts):
            for mount in mounts:
                if (word := mount.option("from")) is not None:
                    yield f"RUN --mount=type={mount.type},from=", word
        case _:
            pass


@frozen
class _CopyOrigins:
    """What the instructions of a stage may copy from."""

    buildfile: Buildfile
    stage: Stage
    scope: Mapping[str, str]  # the ARGs before the first FROM
    images: ImageSource
    contexts: NamedContexts

    def sources(self, instructions: Sequence[Instruction], escape: str) -> dict[str, int | StoredImage | ContextFiles]:
        """Each COPY --from and each `from` of a mount, as it is written, and what it means."""
        found: dict[str, int | StoredImage | ContextFiles] = {}
        for instruction in instructions:
            for says, word in _froms(instruction):
                found[word.text] = self._source(self._name(word, says, escape), says, word.span)
        return found

    def _name(self, word: Word, says: str, escape: str) -> str:
        """The name with its variables replaced, as in a FROM: what a stage is made of is known before it is planned."""
        if "$" not in word.text:
            return word.text
        name = expand_word(word, self.scope, escape)
        if not name:
            raise PlanError(
                f"{says}{word.text}: the name is empty",
                span=word.span,
                hint="only ARGs before the first FROM count here; give it a default, or use --build-arg",
            )
        return name

    def _source(self, name: str, says: str, span: Span) -> int | StoredImage | ContextFiles:
        """What a `from` means: a named context, a stage that comes before, by name or by number counted from 0, else an
        image."""
        stages, stage = self.buildfile.stages, self.stage
        if (number := _index(name)) is not None:
            if number < stage.index:
                return number
            raise PlanError(f"{says}{name}: there is no stage {name} before this one", span=span)
        if (named := _named(self.contexts, name, span)) is not None:
            return named
        before = _stage_before(self.buildfile, stage, name)
        if before is not None:
            return before
        if any(other.name == name.lower() for other in stages):
            raise PlanError(f"{says}{name}: stage {name} does not come before this one", span=span)
        try:
            return _image(self.images, name, span)
        except PlanError as error:
            similar = suggest(name.lower(), [other.name for other in stages[: stage.index] if other.name])
            if similar:
                raise error.hinting(f"did you mean the stage {similar}?") from error
            raise
