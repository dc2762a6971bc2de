"""CONTRIBUTING.md names files, and functions in them as `file.py::name`: all of them exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
PAGES = ("CONTRIBUTING.md", "SECURITY.md", "NOTICE")
PATH = r"(?:\.?[\w-]+/)+(?:[\w.-]+)?|[A-Z]+\.md|pyproject\.toml"


def names_in(body: list[ast.stmt], prefix: str = "") -> set[str]:
    """The names that a module or a class binds; members of classes as Class.member."""
    found: set[str] = set()
    for node in body:
        if isinstance(node, ast.ClassDef):
            found |= {prefix + node.name, *names_in(node.body, f"{prefix}{node.name}.")}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(prefix + node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {prefix + target.id for target in targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_exists(page: str) -> None:
    text = (CHECKOUT / page).read_text()
    quoted = re.findall(rf"`({PATH})(?:::([\w.]+))?`", text)
    assert quoted or page == "NOTICE"
    for path, name in quoted:
        if path == "pybuild/commands/foo.py":
            continue  # the example of a new verb
        assert (CHECKOUT / path).exists(), f"{page} names {path}"
        if name:
            assert name in names_in(ast.parse((CHECKOUT / path).read_text()).body), f"{page}: {path} has no {name}"
    for path in re.findall(rf"^({PATH})$", text, re.MULTILINE):
        assert (CHECKOUT / path).exists(), f"{page} names {path}"
