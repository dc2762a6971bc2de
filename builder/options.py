"""What a build is asked for, beside the recipe and the context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import Enum

from pybuild.builder.limits import StepLimits
from pybuild.builder.on_failure import OnFail
from pybuild.store.formats.platform import Platform
from pybuild.values import frozen

HOSTNAME = "pybuild"  # of RUN steps


class Network(Enum):
    """What a RUN can reach."""

    DEFAULT = "default"
    NONE = "none"
    HOST = "host"


class Entitlement(Enum):
    """What a recipe gets only if its user allows it."""

    NETWORK_HOST = "network.host"
    SECURITY_INSECURE = "security.insecure"


class Pull(Enum):
    """When a base image is looked for in its registry."""

    MISSING = "missing"  # when the store has none of that name
    ALWAYS = "always"
    NEVER = "never"


@frozen
class SecretSource:
    """A secret of the user's: what a file holds, or, where it is given, a variable of the environment."""

    id: str
    path: str
    variable: str | None = None


@frozen
class AgentSource:
    """An SSH agent of the user's, by its socket."""

    id: str
    path: str


@frozen
class BuildOptions:
    """The choices of one build."""

    target: str | None = None
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)  # of the manifest
    no_cache: bool = False
    require_cached: bool = False  # run nothing: raise NotCached instead
    no_cache_stages: tuple[str, ...] = ()  # by name or number: those whose steps run again
    jobs: int = 16  # RUN steps at a time
    network: Network = Network.DEFAULT
    hosts: tuple[tuple[str, str], ...] = ()  # names and addresses for /etc/hosts of RUN steps
    hostname: str = HOSTNAME  # of RUN steps
    limits: StepLimits = field(default_factory=StepLimits)
    on_fail: OnFail = field(default_factory=OnFail)
    allow: frozenset[Entitlement] = frozenset()
    secrets: tuple[SecretSource, ...] = ()
    agents: tuple[AgentSource, ...] = ()
    pull: Pull = Pull.MISSING
    tls_verify: bool = True  # of registries
    epoch: int | None = None  # SOURCE_DATE_EPOCH, seconds
    platform: Platform = field(default_factory=Platform.host)  # what the image is for
    build_platform: Platform = field(default_factory=Platform.host)  # what builds it

    @property
    def is_foreign(self) -> bool:
        """Whether the image is for another platform than this machine's."""
        return not self.platform.matches(self.build_platform)
