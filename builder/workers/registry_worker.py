"""A job worker that is started before there is a job for it: meanwhile it imports what talks to registries."""

from __future__ import annotations

from importlib import import_module

from pybuild.builder.workers import job_worker

_NEEDED = (
    "pybuild.builder.jobs.cache",
    "pybuild.builder.jobs.push",
    "pybuild.remote.registry.client",
    "pybuild.remote.registry.push",
)


def main(fd: int) -> None:
    """Serve the main process over the socket `fd`."""
    for name in _NEEDED:
        import_module(name)
    job_worker.main(fd)
