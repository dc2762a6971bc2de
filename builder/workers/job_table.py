"""All jobs, by the names under which the main process asks for them, and where each is.

A worker imports what it is asked to do and no more: most do one or two kinds of jobs, and to import all of them takes ten
times as long as to start the interpreter.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pybuild.builder.jobs.job import Job

MODULES = {
    "context": ("ListContext",),
    "copy": ("CopyFiles",),
    "export_failed": ("ExportFailed",),
    "fetch": ("FetchUrl",),
    "layer": ("MakeTree", "ReadLayer", "Recompress", "WriteTar"),
    "mount": ("AwaitCacheMount", "MakeCacheMount", "PrepareBound"),
    "probe": ("Probe",),
    "registry": ("FetchBlobs", "FetchManifest"),
    "git": ("AskRepository", "FetchRepository", "ListSubdir"),
    "step": (
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
            found: type[Job[object]] = getattr(import_module(f"pybuild.builder.jobs.{module}"), name)
            return found
    raise KeyError(name)
