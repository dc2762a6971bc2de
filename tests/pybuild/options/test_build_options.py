"""Every option of `pybuild build` reaches the build."""

from __future__ import annotations

import ast
import inspect
from dataclasses import fields

import pytest

from pybuild.builder.options import BuildOptions
from pybuild.commands import build, build_pages
from pybuild.options.cache import CacheOptions
from pybuild.options.results import ResultOptions
from pybuild.options.sources import SourceOptions
from pybuild.options.steps import StepOptions

TREE = ast.parse(inspect.getsource(build))
PAGES = ast.parse(inspect.getsource(build_pages))  # which reads the options of its own
NOT_FILLED = {"build_platform": "the platform of this machine", "annotations": "leveled_annotations has them"}  # field of BuildOptions -> why no option sets it
GROUPS = {"sources": SourceOptions, "results": ResultOptions, "cache": CacheOptions, "steps": StepOptions}


def test_the_command_fills_every_field_of_the_options_of_a_build() -> None:
    (call,) = (node for node in ast.walk(TREE) if isinstance(node, ast.Call) and ast.unparse(node.func) == "BuildOptions")
    missing = {field.name for field in fields(BuildOptions)} - {keyword.arg for keyword in call.keywords} - set(NOT_FILLED)
    assert not missing, f"fill it in pybuild/commands/build.py::_request: {', '.join(sorted(missing))}"


@pytest.mark.parametrize("group", GROUPS)
def test_the_command_reads_every_option_of_a_group(group: str) -> None:
    nodes = (*ast.walk(TREE), *ast.walk(PAGES))
    read = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
    unread = [field.name for field in fields(GROUPS[group]) if f"{group}.{field.name}" not in read]
    assert not unread, f"the command does not use {', '.join(unread)}"
