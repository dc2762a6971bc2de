"""The plan as values: a graph of nodes with all variables expanded, before anything runs.

Each base image and each instruction that makes a layer (RUN, COPY, ADD, WORKDIR) is a node. All other instructions only
change the config.
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
    from pybuild.parser import Flag, Span
    from pybuild.store.formats.platform import Platform
    from pybuild.store.objects.cache_mounts import Sharing
    from pybuild.store.objects.images import StoredImage

FILES_PATH = "/bound"  # a node for one path of a context has the files of that path here


@frozen
class ScriptMount:
    """A heredoc that is a program: the file `name` in the read-only directory `target`."""

    target: str
    name: str
    content: str


@frozen
class FilesMount:
    """A bind mount: the files at `path` in the root filesystem of a source. Writes to it are discarded.

    `source` is an index into `sources` of the node.
    """

    target: str
    source: int
    path: str
    read_only: bool


@frozen
class PlannedCacheMount:
    """A cache mount of the store. `name` is its id, with the namespace of the build as a prefix.

    If `source` is an index into `sources` of the node, a new cache starts with a copy of `path` in that source. If it
    is None, `path` is the part of the cache that is mounted.
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


# TmpfsMount, SecretMount and SshMount are the parser's; in a plan their words are expanded and their targets absolute.
StepMount: TypeAlias = TmpfsMount | SecretMount | SshMount | ScriptMount | FilesMount | PlannedCacheMount


@frozen
class BaseStep:
    """The layers of an image."""

    image: StoredImage


@frozen
class RunStep:
    """A command. `variables` lacks HOME unless the recipe sets it: its value comes from the image's passwd.

    `proxy` holds the proxy variables of this machine: they are part of the environment, but not of the cache key.
    """

    argv: tuple[str, ...]
    variables: tuple[str, ...]
    cwd: str
    user: str
    network: Network
    proxy: tuple[str, ...] = ()
    mounts: tuple[StepMount, ...] = ()
    insecure: bool = False  # --security=insecure: all capabilities of the namespace
    hostname: str = HOSTNAME
    hosts: tuple[str, ...] = ()  # names of --add-host, sorted; the addresses are not part of the cache key
    args: tuple[str, ...] = ()  # the names in the environment that are ARGs; used to explain a cache miss

    @property
    def env(self) -> tuple[str, ...]:
        """The environment, as `name=value`."""
        return (*self.variables, *self.proxy)


@frozen
class CopyStep:
    """COPY or ADD of files from a context, or from another node (`from_stage`), and of heredocs (`inline`).

    `context` is the name of a named context, "" for the main one. `identity` identifies the content of a context that
    never changes, and is "" for all others. `remote` holds the sources that are URLs or repositories, each with its
    position in `sources`. A step with `link` makes a layer that does not depend on the layers below it.
    """

    sources: tuple[str, ...]
    dest: str
    chown: str | None
    mode: int | str | None  # bits, or symbols such as "u+x"
    from_stage: bool
    exclude: tuple[str, ...] = ()
    parents: bool = False
    inline: tuple[InlineFile, ...] = ()
    link: bool = False
    unpack: bool = False  # unpack local archives
    context: str = ""
    identity: str = ""
    remote: tuple[tuple[int, RemoteSource], ...] = ()
    unpack_remote: bool = False  # unpack downloaded archives

    @property
    def has_context(self) -> bool:
        """Whether the step copies files of a context."""
        return len(self.sources) > len(self.remote) and not self.from_stage

    @property
    def reads_context(self) -> bool:
        """Whether the step copies files of a context that can change between builds: the files must be in the key."""
        return self.has_context and not self.identity


@frozen
class WorkdirStep:
    """Make a directory and its missing parents, owned by `user`."""

    path: str
    user: str


Step = BaseStep | RunStep | CopyStep | WorkdirStep


@frozen
class Node:
    """One step, the node below it (`parent`; None for an empty root filesystem), and the nodes that it reads.

    `number` counts the steps of the stage from 1; images and contexts have 0. A `fresh` node always runs: the
    solver does not look it up in the cache. `label` tells the platforms of a build for several apart.
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
    label: str = ""  # the platform, in a plan for several
    flags: tuple[Flag, ...] = ()  # of a RUN in the recipe itself: for errors about one of them

    @property
    def shown_stage(self) -> str:
        """The stage as messages name it."""
        return f"{self.label} {self.stage}" if self.label else self.stage


@frozen
class PlannedStage:
    """A planned stage: its last node (None: it has no layers), its config, and the history that it adds to its base."""

    node: int | None
    state: StageState
    base: StoredImage | None
    history: tuple[HistoryEntry, ...]
    platform: Platform


@frozen
class Plan:
    """All nodes, each after the nodes that it needs, and the stages, by index.

    A plan for several platforms (merge.py) has only the target among its stages, for the first platform; `others` are the
    same for the other platforms.
    """

    nodes: tuple[Node, ...]
    stages: Mapping[int, PlannedStage]
    target: int
    others: tuple[PlannedStage, ...] = ()

    @property
    def image(self) -> PlannedStage:
        """The stage that becomes the image, for the first platform."""
        return self.stages[self.target]

    @property
    def images(self) -> tuple[PlannedStage, ...]:
        """The stages that become images, one for each platform."""
        return (self.image, *self.others)

    @property
    def targets(self) -> frozenset[int]:
        """The nodes that the images are made of: the last one of each."""
        return frozenset(image.node for image in self.images if image.node is not None)


def source_mounts(step: RunStep) -> tuple[FilesMount | PlannedCacheMount, ...]:
    """The mounts that read files of another node."""
    return tuple(
        mount for mount in step.mounts if isinstance(mount, FilesMount | PlannedCacheMount) and mount.source is not None
    )


def literal_pattern(path: str) -> str:
    """A source of a CopyStep that matches only this path: special characters are escaped."""
    return re.sub(r"[\\*?\[]", r"\\\g<0>", path)
