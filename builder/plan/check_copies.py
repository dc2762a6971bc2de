"""Checks of COPY and ADD for what goes wrong without a message: rules of pybuild, which BuildKit lacks.

CopyUnmatchedWildcard    a pattern matches no file, so nothing is copied for it
CopyLastFileWins         several files get one name, so only the last one stays
CopyLinkResetsDirectory  COPY --link makes a directory of the image anew, with another mode or owner
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from pybuild.builder.errors import BuildError
from pybuild.builder.files.context_names import ContextNames, matched, matches_parents
from pybuild.builder.plan.image_directories import ImageDirectories, KnownDirectory, owner_of, parents
from pybuild.builder.plan.resolve import ContextFiles
from pybuild.builder.remote_source import is_remote, is_repository
from pybuild.parser import (
    Add,
    Copy,
    ModeError,
    OctalMode,
    PatternError,
    Run,
    ShellForm,
    Workdir,
    has_wildcard,
    parse_mode,
)
from pybuild.store.errors import StoreError
from pybuild.store.formats.toc import Kind
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pybuild.builder.files.context_source import ContextSource
    from pybuild.builder.plan.resolve import Resolved, ResolvedStage
    from pybuild.builder.plan.stage_state import StageState
    from pybuild.parser import Instruction, Word

_LINKED_MODE = 0o755  # of the directories that COPY --link makes
_SHOWN = 3  # directories in one message
_ARCHIVES = (".tar", ".tgz", ".tbz2", ".txz", ".tzst", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
_UNREADABLE = (BuildError, StoreError, PatternError, OSError)  # the build reports these


@frozen
class _KnownSource:
    """A source of a COPY: its text, the number of its files (None: not known), and whether it is a directory."""

    text: str
    files: int | None
    is_directory: bool = False
    matches_nothing: bool = False


class CopyChecks:
    """Follows the directories of all stages. `files` opens a context by its name; `expand` gives the value of a word
    of the instruction, or None if it cannot be known.
    """

    def __init__(
        self,
        resolved: Resolved,
        files: Callable[[str], ContextSource],
        expand: Callable[[ResolvedStage, Word], str | None],
    ) -> None:
        self._resolved = resolved
        self._files = files
        self._expand = expand
        self._directories: dict[int, ImageDirectories] = {}
        self._contexts: dict[str, ContextNames] = {}

    def check(self, stage: ResolvedStage, instruction: Instruction, state: StageState) -> Iterator[tuple[str, str]]:
        """The rule and the message of each finding about an instruction. Raises PlanError for a wrong word."""
        directories = self._of(stage)
        match instruction:
            case Copy() | Add():
                yield from self._copy(stage, instruction, directories)
            case Workdir(path=word):
                directories.change_to(self._expand(stage, word), owner_of(state.config.user))
            case Run(command=ShellForm(script=script)):
                directories.run(script)
            case Run(text=text):
                directories.run(text)
            case _:
                pass

    def _of(self, stage: ResolvedStage) -> ImageDirectories:
        index = stage.stage.index
        if index not in self._directories:
            below = None if stage.parent is None else self._of(self._resolved.stages[stage.parent])
            starts_empty = stage.image is None and stage.is_known
            self._directories[index] = ImageDirectories(standard=not starts_empty, below=below)
        return self._directories[index]

    def _copy(
        self, stage: ResolvedStage, instruction: Copy | Add, directories: ImageDirectories
    ) -> Iterator[tuple[str, str]]:
        words = [self._expand(stage, word) for word in instruction.sources]
        dest = self._expand(stage, instruction.dest)
        sources = self._sources(stage, instruction, [word for word in words if word is not None], dest)
        for source in sources:
            if source.matches_nothing:
                text = f'The pattern "{source.text}" matches no file of the context, so {instruction.keyword} copies nothing for it'
                yield "CopyUnmatchedWildcard", text
        if dest is None:
            return
        path = directories.absolute(dest)
        exists = path is not None and directories.may_exist(path)
        if not _names_directory(dest) and not exists and None not in words:
            files = [source.files or 0 for source in sources]
            if sum(files) + len(instruction.heredocs) > 1:
                text = f'Several files are copied to "{dest}": unless the image has a directory of that name, only the last one stays'
                yield "CopyLastFileWins", text
        if path is None:
            return
        into = _names_directory(dest) or any(source.is_directory for source in sources)
        if not into and any(source.files is None for source in sources):
            directories.may_make(path)
        made = [*parents(path), *([path] if into and path != "/" else [])]
        chown, chmod = (
            None if word is None else self._expand(stage, word) for word in (instruction.chown, instruction.chmod)
        )
        if instruction.link and instruction.chmod is None and (instruction.chown is None or chown is not None):
            yield from _link_resets(made, KnownDirectory(_LINKED_MODE, owner_of(chown)), directories)
        elif made:
            directories.make(made[-1], KnownDirectory(_mode_of(chmod), owner_of(chown)))

    def _sources(
        self, stage: ResolvedStage, instruction: Copy | Add, texts: Sequence[str], dest: str | None
    ) -> list[_KnownSource]:
        """What is known of the sources. Only what a rule needs is looked up in the context."""
        name = instruction.from_.text if isinstance(instruction, Copy) and instruction.from_ is not None else None
        context = self._resolved.context if name is None else stage.sources.get(name)
        several = len(texts) > 1 and dest is not None and not _names_directory(dest)
        wanted = several or instruction.link or any(map(has_wildcard, texts))
        if not isinstance(context, ContextFiles) or not wanted:
            return [_KnownSource(text, None) for text in texts]
        try:
            if context.name not in self._contexts:
                self._contexts[context.name] = ContextNames(self._files(context.name))
            with self._contexts[context.name].opened() as tree:
                found = []
                for text in texts:
                    if is_remote(text):
                        found.append(
                            _KnownSource(text, 0 if is_repository(text) or _unpacks_downloads(instruction) else 1)
                        )
                    elif isinstance(instruction, Copy) and instruction.parents:
                        nothing = has_wildcard(text) and not matches_parents(tree, text)
                        found.append(_KnownSource(text, None, is_directory=True, matches_nothing=nothing))
                    else:
                        entries = [entry for entry in matched(tree, text) if entry is not None]
                        files = [entry for entry in entries if entry.kind is not Kind.DIRECTORY]
                        names = {entry.path for entry in files if not _is_unpacked(instruction, entry.path)}
                        nothing = has_wildcard(text) and not entries
                        found.append(_KnownSource(text, len(names), len(files) < len(entries), nothing))
                return found
        except _UNREADABLE:
            return [_KnownSource(text, None) for text in texts]


def _is_unpacked(instruction: Copy | Add, path: bytes) -> bool:
    """Whether ADD probably unpacks a file. Its name decides, because a check reads no content."""
    name = path.decode("utf-8", "surrogateescape").lower()
    return isinstance(instruction, Add) and instruction.unpack is not False and name.endswith(_ARCHIVES)


def _unpacks_downloads(instruction: Copy | Add) -> bool:
    return isinstance(instruction, Add) and instruction.unpack is True


def _names_directory(dest: str) -> bool:
    """Whether a destination is a directory by the way it is written."""
    return posixpath.basename(dest) in ("", ".", "..")


def _mode_of(chmod: str | None) -> int:
    """The mode of the directories that a COPY without --link makes."""
    try:
        mode = parse_mode(chmod) if chmod else None
    except ModeError:
        return _LINKED_MODE
    return mode.bits if isinstance(mode, OctalMode) else _LINKED_MODE


def _link_resets(made: Sequence[str], new: KnownDirectory, directories: ImageDirectories) -> Iterator[tuple[str, str]]:
    changes = []
    for path in made:
        old = directories.find(path)
        if old is not None and old.mode != new.mode:
            changes.append(f"{path} gets the mode {new.mode:04o} instead of {old.mode:04o}")
        if old is not None and _is_other(old.owner, new.owner):
            changes.append(f"{path} gets the owner {new.owner} instead of {old.owner}")
        directories.replace(path, new)
    if changes:
        more = f" (and {len(changes) - _SHOWN} more)" if len(changes) > _SHOWN else ""
        text = f"COPY --link makes the directories of its destination anew: {', '.join(changes[:_SHOWN])}{more}"
        yield "CopyLinkResetsDirectory", text


def _is_other(old: str, new: str) -> bool:
    """Whether two owners differ for certain: a name and a number can mean the same user."""
    return old != new and (old.isdigit() == new.isdigit() or "root" in (old, new))
