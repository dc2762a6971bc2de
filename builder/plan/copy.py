"""COPY and ADD: the sources, the destination, and the owner and mode of the copied files."""

from __future__ import annotations

import posixpath
from functools import partial
from typing import TYPE_CHECKING

from pybuild.builder.errors import PlanError
from pybuild.builder.files.tree import InlineFile
from pybuild.builder.plan import windows
from pybuild.builder.plan.graph import CopyStep
from pybuild.builder.plan.scope import PlannedStep
from pybuild.builder.remote_source import is_remote, read_remote
from pybuild.parser import (
    Add,
    Copy,
    ExpansionError,
    IgnoreFile,
    ModeError,
    OctalMode,
    PatternError,
    expand_heredoc,
    match_pattern,
    parse_mode,
)

if TYPE_CHECKING:
    from pybuild.builder.plan.scope import Scope
    from pybuild.builder.remote_source import RemoteSource
    from pybuild.parser import Heredoc, Word

PATH_LIMIT = 4096  # PATH_MAX of Linux


def plan_copy(instruction: Copy | Add, scope: Scope) -> PlannedStep:
    """The step of a COPY or ADD. Raises PlanError."""
    keyword = instruction.keyword
    from_ = instruction.from_ if isinstance(instruction, Copy) else None
    parents = isinstance(instruction, Copy) and instruction.parents
    sources, remote = _sources(instruction, scope, parents=parents)
    dest = scope.expand(instruction.dest)
    _check_length(keyword, dest, instruction.dest)
    chown = scope.expand_flag(instruction.chown)
    chmod = scope.expand_flag(instruction.chmod)
    nodes: tuple[int | None, ...] = ()
    files = scope.nodes.context(from_.text if from_ is not None else None)
    if from_ is not None and files is None:
        nodes = (scope.nodes.source(from_.text, instruction.span),)
    from_windows = bool(nodes) and scope.nodes.is_windows(nodes[0])
    step = CopyStep(
        sources=tuple(map(partial(_in_layer, parents=parents), sources)) if from_windows else sources,
        dest=scope.state.in_layers(absolute_dest(scope, dest, instruction.dest)),
        chown=chown,
        mode=_mode(instruction.chmod, chmod),
        from_stage=bool(nodes),
        exclude=_patterns(instruction.exclude),
        parents=parents,
        inline=_inline(instruction.heredocs, scope),
        link=_is_link(instruction, chown, chmod),
        unpack=isinstance(instruction, Add) and instruction.unpack is not False and len(sources) > len(remote),
        context=files.name if files is not None else "",
        identity=files.identity if files is not None and len(sources) > len(remote) else "",
        remote=remote,
        unpack_remote=isinstance(instruction, Add) and instruction.unpack is True and bool(remote),
    )
    words = ["--parents"] if parents else []
    words += [f"--chown={chown}"] if chown is not None else []
    words += [f"--chmod={chmod}"] if chmod is not None else []
    words += [*sources, *(f"<<{heredoc.name}" for heredoc in instruction.heredocs), dest]
    return PlannedStep(step, nodes, " ".join([keyword, *words, "# buildkit"]))


def _check_length(keyword: str, path: str, word: Word) -> None:
    if len(path) > PATH_LIMIT:
        raise PlanError(f"{keyword}: a path exceeds the limit of {PATH_LIMIT} characters", span=word.span)


def _sources(
    instruction: Copy | Add, scope: Scope, *, parents: bool
) -> tuple[tuple[str, ...], tuple[tuple[int, RemoteSource], ...]]:
    """All sources, without passwords in URLs; and those sources that are URLs or repositories, each with its position."""
    keyword = instruction.keyword
    checksum = scope.expand_flag(instruction.checksum) if isinstance(instruction, Add) else None
    sources = []
    remote = []
    for position, word in enumerate(instruction.sources):
        source = scope.expand(word)
        if scope.state.windows and not is_remote(source):
            source = windows.slashed(source, word.span)
        if is_remote(source):
            found = _remote(instruction, word, source, checksum)
            remote.append((position, found))
            sources.append(found.redacted)
            continue
        _check_length(keyword, source, word)
        sources.append(source)
        try:
            for part in source.split("/"):
                match_pattern(part, "")
            if parents:
                IgnoreFile.of([source])
        except PatternError as error:
            raise PlanError(f"{keyword}: {error}", span=word.span) from None
    if checksum is not None and not remote:
        assert isinstance(instruction, Add) and instruction.checksum is not None
        raise PlanError("--checksum needs a source that is a URL or a repository", span=instruction.checksum.span)
    return tuple(sources), tuple(remote)


def _remote(instruction: Copy | Add, word: Word, source: str, checksum: str | None) -> RemoteSource:
    if isinstance(instruction, Copy):
        raise PlanError("COPY: a source cannot be a URL or a repository", span=word.span, hint="use ADD")
    try:
        return read_remote(source, checksum, keep_git_dir=instruction.keep_git_dir)
    except PlanError as error:
        raise PlanError(f"ADD: {error}", span=word.span, hint=error.hint) from None


def _is_link(instruction: Copy | Add, chown: str | None, chmod: str | None) -> bool:
    """Whether --link takes effect. As in BuildKit, --chmod turns it off.

    Raises PlanError if --chown is a name: names are looked up in the image, and the layer must not depend on it.
    """
    if not instruction.link or chmod is not None:
        return False
    if chown is not None and not all(part.isdigit() for part in chown.split(":") if part):
        assert instruction.chown is not None
        raise PlanError(
            f"--chown={chown}: with --link the owner must be a number",
            span=instruction.chown.span,
            hint="use numbers, or remove --link",
        )
    return True


def _mode(word: Word | None, text: str | None) -> int | str | None:
    """The value of --chmod: bits, or the text of a symbolic mode. Raises PlanError."""
    if word is None or text is None:
        return None
    try:
        mode = parse_mode(text)
    except ModeError as error:
        raise PlanError(f"--chmod={text}: {error}", span=word.span, hint=error.hint) from None
    return mode.bits if isinstance(mode, OctalMode) else text


def _patterns(words: tuple[Word, ...]) -> tuple[str, ...]:
    """The patterns of --exclude, whose variables are not expanded. Raises PlanError."""
    for word in words:
        try:
            IgnoreFile.of([word.text])
        except PatternError as error:
            raise PlanError(f"--exclude={word.text}: {error}", span=word.span) from None
    return tuple(word.text for word in words)


def _inline(heredocs: tuple[Heredoc, ...], scope: Scope) -> tuple[InlineFile, ...]:
    files = []
    for heredoc in heredocs:
        text = heredoc.content
        if heredoc.expand:
            try:
                text = scope.budget.expansion(expand_heredoc(text, scope.state.scope), heredoc.span)
            except ExpansionError as error:
                raise PlanError(f"<<{heredoc.name}: {error.message}", span=heredoc.span, hint=error.hint) from None
        files.append(InlineFile(heredoc.name, text))
    return tuple(files)


def _in_layer(source: str, *, parents: bool) -> str:
    """Where the layers of a stage for Windows have a source. --parents does not copy the directory `Files`."""
    return windows.in_layer(f"./{source.lstrip('/')}" if parents else source)


def absolute_dest(scope: Scope, dest: str, word: Word) -> str:
    """A destination joined to the working directory; "" is that directory.

    A slash at its end, which makes it a directory, is kept. Raises PlanError.
    """
    try:
        absolute = scope.state.absolute(dest)
    except PlanError as error:
        raise error.at(word.span) from error
    dest = dest.replace("\\", "/") if scope.state.windows else dest
    if posixpath.basename(dest) in ("", ".", ".."):
        absolute = absolute.rstrip("/") + "/"
    return absolute
