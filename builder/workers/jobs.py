"""All jobs, by the names under which the main process asks for them, and where each is.

A worker imports what it is asked to do and no more: most do one or two kinds of jobs, and to import all of them takes ten
times as long as to start the interpreter.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pybuild.builder.workers.job import Job

MODULES = {
    "context_jobs": ("ListContext",),
    "copy_jobs": ("CopyFiles",),
    "export_jobs": ("ExportFailed",),
    "fetch_jobs": ("FetchUrl",),
    "layer_jobs": ("MakeTree", "ReadLayer", "Recompress", "WriteTar"),
    "mount_jobs": ("AwaitCacheMount", "MakeCacheMount", "PrepareBound"),
    "probe": ("Probe",),
    "registry_jobs": ("FetchBlobs", "FetchManifest"),
    "repository_jobs": ("AskRepository", "FetchRepository", "ListSubdir"),
    "step_jobs": (
        "CommitStep",
        "FinishStep",
        "MakeDirectory",
        "MeasureTree",
        "PrepareStep",
        "ReadFile",
        "RemoveTree",
    ),
}


def job_class(name: str) -> type[Job[object]]:
    """The class of the jobs of this name. Raises KeyError for one that is in no module."""
    for module, jobs in MODULES.items():
        if name in jobs:
            found: type[Job[object]] = getattr(import_module(f"pybuild.builder.workers.{module}"), name)
            return found
    raise KeyError(name)
