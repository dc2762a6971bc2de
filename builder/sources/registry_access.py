"""What workers need to reach registries. A module of its own, because pull.py imports layers.py, and both need it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builder.jobs.registry import RegistryAccess
from pybuild.builder.sources.worker_environment import worker_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pybuild.store.objects.ingest import Ingest


def registry_access(environ: Mapping[str, str], ingest: Ingest, *, tls_verify: bool) -> RegistryAccess:
    """What a worker needs to reach registries: the whole environment, because credential helpers can read any of it.

    All workers of this process share what they find out about registries, in a file of its working directory.
    """
    return RegistryAccess(worker_environment(environ), tls_verify, ingest.path_of("origins"))
