"""The jobs that a worker can do, by the name of their class, and the module of builder/jobs that each is in.

A worker imports only the jobs that it is asked for: most workers do one or two kinds, and importing all kinds takes ten
times as long as starting the interpreter.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from pybuild.builder.errors import BuildError
from pybuild.builder.workers.codec import IF_UPDATED

if TYPE_CHECKING:
    from pybuild.builder.jobs.job import Job

MODULES = {
    "cache": ("FetchCache",),
    "cache_mount": ("PackCacheMount", "UnpackCacheMount"),
    "context": ("ListContext",),
    "copy": ("CopyFiles",),
    "export_failed": ("ExportFailedStep",),
    "fetch": ("FetchUrl",),
    "fsck": ("CompareTree", "WriteBlob"),
    "git": ("FetchRepository", "ListSubdirectory", "ResolveReference"),
    "in_place": ("CommitInPlace", "KeepCaches", "PrepareInPlace"),
    "layer": ("MakeTree", "Recompress", "WriteTar"),
    "mount": ("AwaitCacheMount", "MakeCacheMount", "PrepareBindMount"),
    "one_pass": ("FetchLayer", "MakeFedTree", "ReadLayer"),
    "overlay_trial": ("TryOverlay",),
    "probe": ("Probe",),
    "push": ("FindMissing", "PushBlobs", "PushManifest"),
    "registry": ("FetchBlob", "FetchImage"),
    "root": ("CommitRoot", "CopyBoundFiles", "PrepareRoot"),
    "step": (
        "CommitStep",
        "FinishStep",
        "MakeDirectory",
        "MeasureTree",
        "PrepareStep",
        "ReadFile",
        "RemoveTree",
    ),
    "tables": ("PackTables", "ReadTable"),
    "transfer": ("CompareTags", "FetchGraph", "FindAbsent", "SendBlobs", "SendDocuments"),
}


def job_class(name: str) -> type[Job[object]]:
    """The class of the jobs of this name. Raises BuildError if there is none."""
    for module, jobs in MODULES.items():
        if name in jobs:
            found: type[Job[object]] = getattr(import_module(f"pybuild.builder.jobs.{module}"), name)
            return found
    raise BuildError(f"workers have no job named {name}", hint=IF_UPDATED)
