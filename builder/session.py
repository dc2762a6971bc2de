"""The session of one build: what all of its parts share."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from pybuild.builder.secrets import BuildSecrets
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.builder.events import Event
    from pybuild.builder.host.step_cgroups import Cgroups
    from pybuild.builder.options import BuildOptions
    from pybuild.builder.workers.pool import Pool
    from pybuild.store.store import Store


@frozen
class Session:
    """One build: its store, its workers, the user's options, and the function that receives its events."""

    store: Store
    pool: Pool
    options: BuildOptions
    observe: Callable[[Event], None]
    secrets: BuildSecrets = field(default_factory=BuildSecrets)
    cgroups: Cgroups | None = None  # of the steps; None if the build limits nothing
