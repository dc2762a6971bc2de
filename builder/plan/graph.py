"""The plan as values: a graph of nodes, every text decision taken, nothing run.

Steps that make a layer (RUN, COPY, WORKDIR) are nodes; all other instructions only change the config.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from pybuild.builder.options import HOSTNAME
from pybuild.parser import SecretMount, SshMount, TmpfsMount
from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.builder.files.tree import InlineFile
    from pybuild.builder.options import Network
    from pybuild.builder.plan.history import HistoryEntry
    from pybuild.builder.plan.stage_state import StageState
    from pybuild.builder.remote_source import RemoteSource
    from pybuild.parser import Span
    from pybuild.store.formats.platform import Platform
    from pybuild.store.objects.cache_mounts import Sharing
    from pybuild.store.objects.images import StoredImage

FILES_PATH = "/bound"  # where the files of a context's path lie in the root filesystem that is made of them


@frozen
class ScriptMount:
    """A heredoc that is a program, as a file of its name in a directory that can only be read."""

    target: str
    name: str
    content: str


@frozen
class FilesMount:
    """Files of another root filesystem, at `path` in what the step's source of this number holds. Writes are lost."""

    target: str
    source: int
    path: str
    read_only: bool


@frozen
class PlannedCacheMount:
    """A cache mount of the store. `name` is its id with the build's namespace; `path` in the source of this number
    (None: nothing) is what it holds at first, without a source a path in the cache itself.
    """

    target: str
    name: str
    sharing: Sharing
    read_only: bool
    mode: int
    uid: int
    gid: int
    source: int | None
    path: str


# Those of the parser have had its words expanded and its target made absolute.
StepMount: TypeAlias = TmpfsMount | SecretMount | SshMount | ScriptMount | FilesMount | PlannedCacheMount


@frozen
class BaseStep:
    """The layers of an image."""

    image: StoredImage


@frozen
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
    mounts: tuple[StepMount, ...] = ()
    insecure: bool = False  # all of a namespace's power
    hostname: str = HOSTNAME
    hosts: tuple[str, ...] = ()  # names of --add-host, sorted; the addresses are not part of what a step is
    args: tuple[str, ...] = ()  # which names of the environment are ARGs; for explanations

    @property
    def env(self) -> tuple[str, ...]:
        """All of the environment, as `name=value`."""
        return (*self.variables, *self.proxy)


@frozen
class CopyStep:
    """Files, from a context or (`from_stage`) from another stage, which then is the second input; and heredocs.

    `context` is the name of a named context, "" of the main one; `identity` tells what is in it where that can never
    change. Some of the sources may be elsewhere: `remote` has them, each with its position. One that is a `link` makes a
    layer that does not depend on what lies below it.
    """

    sources: tuple[str, ...]
    dest: str
    chown: str | None
    mode: int | str | None  # bits, or in symbols
    from_stage: bool
    exclude: tuple[str, ...] = ()
    parents: bool = False
    inline: tuple[InlineFile, ...] = ()
    link: bool = False
    unpack: bool = False  # local archives
    context: str = ""
    identity: str = ""
    remote: tuple[tuple[int, RemoteSource], ...] = ()
    unpack_remote: bool = False  # archives that are downloaded

    @property
    def has_context(self) -> bool:
        """Whether it takes files from a context."""
        return len(self.sources) > len(self.remote) and not self.from_stage

    @property
    def reads_context(self) -> bool:
        """Whether the words do not tell what is copied: the files of a context may be others tomorrow."""
        return self.has_context and not self.identity


@frozen
class WorkdirStep:
    """Make a directory, with all that is missing above it, for the user of the moment."""

    path: str
    user: str


Step = BaseStep | RunStep | CopyStep | WorkdirStep


@frozen
class Node:
    """One step, and the nodes that it needs: the one it stands on (None: on nothing), and those it reads.

    `number` counts the steps of the stage from 1; images and contexts that are used have 0. One that is `fresh` is made
    anew, whatever the cache has of it.
    """

    id: int
    step: Step
    parent: int | None
    sources: tuple[int | None, ...]
    stage: str
    number: int
    span: Span
    text: str
    platform: Platform
    fresh: bool = False


@frozen
class PlannedStage:
    """A stage as planned: its last node (None: no layers at all), the config, the history it adds to its base's."""

    node: int | None
    state: StageState
    base: StoredImage | None
    history: tuple[HistoryEntry, ...]
    platform: Platform


@frozen
class Plan:
    """All nodes, every input before its users, and what is to come of them."""

    nodes: tuple[Node, ...]
    stages: Mapping[int, PlannedStage]
    target: int

    @property
    def image(self) -> PlannedStage:
        """The stage that the image is made of."""
        return self.stages[self.target]


def source_mounts(step: RunStep) -> tuple[FilesMount | PlannedCacheMount, ...]:
    """The mounts that read files of the step's sources."""
    return tuple(
        mount for mount in step.mounts if isinstance(mount, FilesMount | PlannedCacheMount) and mount.source is not None
    )


def literal_pattern(path: str) -> str:
    """A source of a CopyStep that means this path, whatever characters are in it."""
    return re.sub(r"[\\*?\[]", r"\\\g<0>", path)
