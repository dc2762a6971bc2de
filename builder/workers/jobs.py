"""All jobs, by the names under which the main process asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.workers.context_jobs import ListContext
from builder.workers.copy_jobs import CopyFiles
from builder.workers.export_jobs import ExportFailed
from builder.workers.fetch_jobs import FetchUrl
from builder.workers.layer_jobs import MakeTree, ReadLayer, Recompress, WriteTar
from builder.workers.mount_jobs import AwaitCacheMount, MakeCacheMount, PrepareBound
from builder.workers.probe import Probe
from builder.workers.registry_jobs import FetchBlob, FetchManifest
from builder.workers.step_jobs import CommitStep, MakeDirectory, MeasureTree, PrepareStep, ReadFile, RemoveTree

if TYPE_CHECKING:
    from builder.workers.job import Job

JOBS: tuple[type[Job[object]], ...] = (
    AwaitCacheMount, CommitStep, CopyFiles, ExportFailed, FetchBlob, FetchManifest, FetchUrl, ListContext, MakeCacheMount,
    MakeDirectory, MakeTree, MeasureTree, PrepareBound, PrepareStep, Probe, ReadFile, ReadLayer, Recompress, RemoveTree,
    WriteTar,
)  # fmt: skip
