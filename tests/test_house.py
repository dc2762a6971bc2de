"""The structure of the project: which way imports point, how long files are, and that every dependency has a reason."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "values": {"values"},
    "parser": {"parser", "values"},
    "store": {"store", "values"},
    "builder": {"builder", "parser", "store", "values"},
    "pybuild": {"pybuild", "builder", "parser", "store", "values"},
}
FILES = [path for package in MAY_IMPORT for path in sorted((CHECKOUT / package).rglob("*.py"))]
MAX_LINES = 430  # about 400: a file that outgrows it holds two things


def name(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def imports(path: Path) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]


def modules(path: Path) -> set[str]:
    found = set()
    for node in imports(path):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{name(path)}:{node.lineno}: a relative import"
            found.add(node.module)
        else:
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=name)
def test_imports_point_one_way(path: Path) -> None:
    package = path.relative_to(CHECKOUT).parts[0]
    ours = {module.partition(".")[0] for module in modules(path)} & set(MAY_IMPORT)
    assert ours <= MAY_IMPORT[package]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_file_holds_one_thing(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


def runtime_imports(path: Path) -> set[str]:
    """What is imported when the module is: not inside functions, not for the type checker alone."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def test_no_module_needs_itself() -> None:
    known = {
        ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES
    }
    graph = {module: runtime_imports(path) & (set(known) - {module}) for module, path in known.items()}
    # A package's __init__ may name its modules, and they each other, so the package itself is no cycle.
    graph = {m: {t for t in targets if not m.startswith(t + ".")} for m, targets in graph.items()}
    done: set[str] = set()
    while len(done) < len(graph):
        ready = {module for module, targets in graph.items() if module not in done and targets <= done}
        assert ready, f"a cycle among {sorted(set(graph) - done)}"
        done |= ready


@pytest.mark.parametrize("path", sorted((CHECKOUT / "builder/sandbox").glob("*.py")), ids=name)
def test_the_sandbox_worker_imports_the_standard_library_only(path: Path) -> None:
    allowed = {"__future__", "ctypes", "dataclasses", "errno", "fcntl", "json", "os", "resource", "select", "signal"}
    allowed |= {"socket", "stat", "struct", "sys"}
    foreign = {m for m in runtime_imports(path) if not m.startswith("builder.sandbox") and m != "builder"}
    assert {module.partition(".")[0] for module in foreign} <= allowed


@pytest.mark.parametrize("path", FILES, ids=name)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    text = path.read_text()
    assert not text.strip() or ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_values_cost_nothing_before_they_are_used(path: Path) -> None:
    """The library's decorator compiles all methods of a class in each process that imports it; values.frozen does not."""
    if path.is_relative_to(CHECKOUT / "builder" / "sandbox"):
        return  # the standard library only
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            decorators = map(ast.unparse, node.decorator_list)
            assert "dataclass(frozen=True, slots=True)" not in decorators, f"{name(path)}:{node.lineno}: use values.frozen"


def test_every_dependency_has_a_reason() -> None:
    text = (CHECKOUT / "pyproject.toml").read_text()
    for requirement in tomllib.loads(text)["project"]["dependencies"]:
        line = next(line for line in text.splitlines() if f'"{requirement}"' in line)
        assert "#" in line, f"{requirement} is not explained"


def test_no_state_of_a_module_is_ever_rebound() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.Global), f"{name(path)}:{node.lineno}: global"
