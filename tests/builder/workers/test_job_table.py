"""The table of the jobs that workers can do."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from pathlib import Path

from pybuild.builder import jobs
from pybuild.builder.workers.job_table import MODULES, job_class


def test_every_job_is_in_the_table() -> None:
    directory = Path(jobs.__file__).parent
    for path in sorted(directory.glob("*.py")):
        module = import_module(f"pybuild.builder.jobs.{path.stem}")
        here = {
            name
            for name, value in vars(module).items()
            if dataclasses.is_dataclass(value) and value.__module__ == module.__name__ and hasattr(value, "in_namespace")
        }
        assert here == set(MODULES.get(path.stem, ())), path.name


def test_job_class_finds_every_job_by_its_name() -> None:
    for names in MODULES.values():
        assert [job_class(name).__name__ for name in names] == list(names)
