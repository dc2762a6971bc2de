"""The options of a build, besides the recipe and the context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import Enum

from pybuild.builder.annotations import Annotation
from pybuild.builder.cache_places import CacheExport, CacheImport
from pybuild.builder.limits import StepLimits
from pybuild.builder.on_failure import OnFail
from pybuild.store.formats.clamp import always
from pybuild.store.formats.platform import Platform
from pybuild.values import frozen

HOSTNAME = "pybuild"  # of RUN steps
HOST_GATEWAY = "host-gateway"  # stands for an address of this machine in --add-host
SOURCE_DATE_EPOCH = "SOURCE_DATE_EPOCH"  # the variable, and the name of the build argument


class Network(Enum):
    """The network that a RUN can reach."""

    DEFAULT = "default"  # one of its own with a way out, where pasta works; else that of the machine
    NONE = "none"
    HOST = "host"


class Isolation(Enum):
    """What RUN steps are kept apart with: docs/user/security.md says what each protects."""

    FULL = "full"  # everything, or the step fails
    CONTAINER = "container"  # what a container that denies some of it leaves
    IN_PLACE = "in-place"  # nothing: in pybuild's own image, whose root becomes the stage
    AUTO = "auto"  # the best of these that works here


class Snapshotter(Enum):
    """How a RUN sees the layers below it, and what it changes stays apart from them."""

    AUTO = "auto"  # overlays where they can be mounted, else copies
    OVERLAY = "overlay"
    COPY = "copy"  # the step runs in a directory of its own with copies of all files


class Entitlement(Enum):
    """Something that a recipe gets only if the user allows it."""

    NETWORK_HOST = "network.host"
    SECURITY_INSECURE = "security.insecure"


class Pull(Enum):
    """When to ask the registry for a base image."""

    MISSING = "missing"  # if the store has no image of that name
    ALWAYS = "always"
    NEVER = "never"


@frozen
class SecretSource:
    """A secret of the user: the content of a file, or of an environment variable if `variable` is set."""

    id: str
    path: str
    variable: str | None = None


@frozen
class AgentSource:
    """An SSH agent of the user, by the path of its socket."""

    id: str
    path: str


def parse_epoch(text: str) -> int | None:
    """The value of SOURCE_DATE_EPOCH in seconds since 1970; None if it is empty. Raises ValueError."""
    if text and (not text.isascii() or not text.isdigit() or len(text) > 11):
        raise ValueError(f"{SOURCE_DATE_EPOCH}={text}: expected seconds since 1970")
    return int(text) if text else None


@frozen
class BuildOptions:
    """The options of one build."""

    target: str | None = None
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)  # of the manifests
    leveled_annotations: tuple[Annotation, ...] = ()  # of any level
    no_cache: bool = False
    require_cached: bool = False  # raise NotCached instead of running a step; without cache_from fetch nothing either
    require_space: int = 0  # bytes: raise NoSpace at once if less is free on the disk of the store
    no_cache_stages: tuple[str, ...] = ()  # names or numbers of stages whose steps run again
    jobs: int = 16  # the most RUN steps at a time
    network: Network = Network.DEFAULT
    isolation: Isolation = Isolation.FULL
    snapshots: Snapshotter = Snapshotter.AUTO
    hosts: tuple[tuple[str, str], ...] = ()  # (name, address or HOST_GATEWAY) for /etc/hosts of RUN steps
    hostname: str = HOSTNAME  # of RUN steps
    limits: StepLimits = field(default_factory=StepLimits)
    on_fail: OnFail = field(default_factory=OnFail)
    allow: frozenset[Entitlement] = frozenset()
    secrets: tuple[SecretSource, ...] = ()
    agents: tuple[AgentSource, ...] = ()
    pull: Pull = Pull.MISSING
    tls_verify: bool = True  # of registries
    epoch: int | None = None  # SOURCE_DATE_EPOCH, seconds; None: that of an ARG before the first FROM, if it has one
    timestamp: int | None = None  # the time of config, history and all new files, seconds; RUN steps do not see it
    platform: Platform = field(default_factory=Platform.host)  # of the image; of several that which is being planned
    platforms: tuple[Platform, ...] = ()  # of the images of a build for several platforms, else empty
    build_platform: Platform = field(default_factory=Platform.host)  # of this machine
    emulators: Mapping[str, str] = field(default_factory=dict)  # processor, by Go's name -> path of a static program
    cache_from: tuple[CacheImport, ...] = ()  # caches of other machines, asked in this order
    cache_to: tuple[CacheExport, ...] = ()

    @property
    def clamp(self) -> int | None:
        """Which times the files of new layers have: store/formats/clamp.py."""
        return self.epoch if self.timestamp is None else always(self.timestamp)

    @property
    def created(self) -> int | None:
        """The time of config and history, in seconds; None: those of the steps."""
        return self.epoch if self.timestamp is None else self.timestamp

    @property
    def fetches_nothing(self) -> bool:
        """Whether the user forbids to fetch anything. With caches of other machines only steps must not run."""
        return self.require_cached and not self.cache_from

    @property
    def travels(self) -> bool:
        """Whether records of the build cache come from other machines, or go there."""
        return bool(self.cache_from or self.cache_to)

    @property
    def all_platforms(self) -> tuple[Platform, ...]:
        """The platforms of the images, in the order of the index."""
        return self.platforms or (self.platform,)

    @property
    def is_foreign(self) -> bool:
        """Whether the image is for a platform other than this machine's."""
        return not self.platform.matches(self.build_platform)
