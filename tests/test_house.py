"""The structure of the project: one test a rule.

A package or room may import what stands below it in the lists here, and nothing above. All imports count: those at the
top of a module, those inside functions, and those for the type checker only.
"""

from __future__ import annotations

import ast
import tomllib
from functools import cache
from itertools import chain
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent

PACKAGES = {  # package -> the other packages that it may import
    "values": set[str](),
    "parser": {"values"},
    "store": {"values"},
    "remote": {"store", "values"},
    "builder": {"parser", "remote", "store", "values"},
    "pybuild": {"builder", "parser", "remote", "store", "values"},
}
ROOMS = {  # package -> its rooms, from top to bottom; those of one line do not import each other
    "pybuild": [
        "__main__",
        "installation",
        "cli",
        "verbs",
        "commands",
        "api",
        "completion_scripts named_image",
        "build_log findings image options pages result_files",
        "progress shell_terminal",
        "report",
        "defaults machine_base signals user_limits version",
    ],
    "builder": [
        "outline",
        "check",
        "reproduce",
        "build",
        "cache_export",
        "maintenance",
        "doctor",
        "transfer",
        "output",
        "gate",
        "solve",
        "caches",
        "steps",
        "sources",
        "session",
        "secrets",
        "plan",
        "workers",
        "jobs",
        "files",
        "host",
        "sandbox",
        "options",  # from here on the ground, which everything stands on
        "annotations cache_places events limits on_failure remote_source",
        "errors",
        "misses",
    ],
    "remote": ["git", "registry", "http", "listener", "errors"],
    "store": ["importing exporting maintenance", "store", "objects", "layers", "formats", "system", "errors"],
}

LINKS = {CHECKOUT / "pybuild" / package for package in PACKAGES}
FILES = [
    path
    for package in PACKAGES
    for path in sorted((CHECKOUT / package).rglob("*.py"))
    if not LINKS & set(path.parents)  # newer Pythons follow links
]
MAX_LINES = 400


def module_of(path: Path) -> str:
    """The name under which a file is imported: pybuild/ holds links to the packages beside it."""
    parts = path.relative_to(CHECKOUT).with_suffix("").parts
    parts = parts if parts[0] == "pybuild" else ("pybuild", *parts)
    return ".".join(parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def where(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> frozenset[str]:
    """All modules that a file imports, ours and others: wherever in the file, and whoever they are for."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{where(path)}:{node.lineno}: a relative import"
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = members & set(MODULES)
            found |= modules
            if modules != members:
                found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return frozenset(found)


def ours(path: Path) -> set[str]:
    return {module for module in imports(path) if module in MODULES} - {module_of(path)}


def package_of(module: str) -> str:
    """Which of our packages a module is in."""
    second = module.split(".")[1] if "." in module else ""
    return second if second in PACKAGES else "pybuild"


def room_of(module: str) -> str:
    """The room of a module inside its package: a directory, or a module of the package itself."""
    parts = module.split(".")
    inside = parts[1:] if package_of(module) == "pybuild" else parts[2:]
    return inside[0] if inside else ""


def arrows() -> list[tuple[str, str]]:
    """Every import of ours by ours."""
    return [(module, target) for module, path in MODULES.items() for target in sorted(ours(path))]


def test_every_import_names_a_module_that_exists() -> None:
    for module, path in MODULES.items():
        unknown = {name for name in imports(path) if name.split(".")[0] == "pybuild"} - set(MODULES)
        assert not unknown, f"{module} imports {unknown}"


def test_packages_import_downwards_only() -> None:
    wrong = [
        f"{module} -> {target}"
        for module, target in arrows()
        if package_of(target) not in {package_of(module), *PACKAGES[package_of(module)]}
    ]
    assert not wrong


def test_rooms_import_downwards_only() -> None:
    wrong = []
    for package, lines in ROOMS.items():
        floors = {room: floor for floor, line in enumerate(lines) for room in line.split()}
        rooms = {room_of(module) for module in MODULES if package_of(module) == package} - {""}
        assert rooms == set(floors), f"the list of the rooms of {package}/ is not that of its files"
        for module, target in arrows():
            if package_of(module) == package_of(target) == package and (here := room_of(module)):
                there = room_of(target)
                if here != there and floors[here] >= floors.get(there, -1):
                    wrong.append(f"{module} -> {target}")
    assert not wrong


def test_no_module_needs_itself() -> None:
    """No circle of imports, not even one that only a type checker walks."""
    graph = {module: ours(path) for module, path in MODULES.items()}
    done: set[str] = set()
    while ready := {module for module, targets in graph.items() if module not in done and targets <= done}:
        done |= ready
    assert not set(graph) - done, f"a circle among {sorted(set(graph) - done)}"


def test_a_class_has_a_name_of_its_own() -> None:
    """A name that two classes have makes a reader look up which one is meant."""
    found: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(where(path))
    assert not {name: places for name, places in found.items() if len(places) > 1}


def test_a_file_holds_one_thing() -> None:
    long = [where(path) for path in FILES if len(path.read_text().splitlines()) > MAX_LINES]
    assert not long


def test_every_module_says_what_it_is_for() -> None:
    silent = [where(path) for path in FILES if path.read_text().strip() and not ast.get_docstring(tree(path))]
    assert not silent


def test_the_sandbox_worker_imports_the_standard_library_only() -> None:
    """It runs as `python -SI`, and what is in its process is beside the steps: what it imports is this list."""
    allowed = {"__future__", "ctypes", "dataclasses", "errno", "fcntl", "json", "os", "resource", "select"}
    allowed |= {"signal", "socket", "stat", "struct", "sys", "typing", "warnings", "collections", "collections.abc", "contextlib"}
    for path in [*(CHECKOUT / "builder/sandbox").glob("*.py"), CHECKOUT / "store/system/syscalls.py"]:
        ours = ("pybuild.builder.sandbox", "pybuild.store.system.syscalls")
        foreign = {name for name in imports(path) if not name.startswith(ours)}
        assert foreign <= allowed, where(path)


def test_values_cost_nothing_before_they_are_used() -> None:
    """The library's decorator compiles all methods of a class in each process that imports it; values.frozen does not."""
    for path in FILES:
        if path.is_relative_to(CHECKOUT / "builder" / "sandbox"):
            continue  # the standard library only
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                decorators = map(ast.unparse, node.decorator_list)
                assert "dataclass(frozen=True, slots=True)" not in decorators, f"{where(path)}:{node.lineno}: use values.frozen"


def test_regular_expressions_are_compiled_when_they_are_used() -> None:
    for path in FILES:
        if path.is_relative_to(CHECKOUT / "builder" / "sandbox"):
            continue  # the standard library only
        for statement in tree(path).body:
            if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
                calls = [ast.unparse(node.func) for node in ast.walk(statement.value) if isinstance(node, ast.Call)]
                assert "re.compile" not in calls, f"{where(path)}:{statement.lineno}: use values.pattern"


def test_every_dependency_has_a_reason() -> None:
    text = (CHECKOUT / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    for requirement in chain(project["dependencies"], *project["optional-dependencies"].values()):
        line = next(line for line in text.splitlines() if f'"{requirement}"' in line)
        assert "#" in line, f"{requirement} is not explained"


def test_no_state_of_a_module_is_ever_rebound() -> None:
    for path in FILES:
        for node in ast.walk(tree(path)):
            assert not isinstance(node, ast.Global), f"{where(path)}:{node.lineno}: global"
