"""The rooms of the package and what may be imported where: the map of CONTRIBUTING.md as tests."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "k8sddp"
MODULES = sorted(PACKAGE.rglob("*.py"))
FOUNDATION = frozenset({"constants", "errors", "topology", "manifest"})

# room -> the rooms of k8sddp that it may import, besides itself
ALLOWED = {
    "worker": frozenset(),
    "spec": FOUNDATION,
    "render": FOUNDATION | {"spec"},
    "plan": FOUNDATION | {"spec"},
    "cluster": FOUNDATION | {"spec", "render", "plan"},
    "local": FOUNDATION | {"spec", "render", "plan"},
    "cli": FOUNDATION | {"spec", "render", "plan", "cluster", "local"},
}
SHARED = "k8sddp.worker.contract"  # what the pods and the other rooms agree on: environment and exit codes

# room of the worker -> what else of the worker it may import
WORKER_ROOMS = {
    "contract": frozenset(),
    "gang": frozenset({"contract", "root_cause"}),
    "net": frozenset({"contract", "gang"}),
    "preflight": frozenset({"contract", "gang", "net"}),
    "ranks": frozenset({"contract", "gang", "net", "root_cause", "instrument"}),  # of it only the words that both use
    "instrument": frozenset(),
}

# library -> the only room that may import it
LIBRARIES = {"kubernetes": "cluster", "urllib3": "cluster", "click": "cli", "rich": "cli", "jinja2": "render"}
PURE = ("spec", "render", "plan")
IMPURE = frozenset({"time", "random", "socket", "subprocess", "secrets", "os", "threading", "shutil", "tempfile"})


def imports_of(path: Path) -> Iterator[str]:
    """Yield the dotted names that a module imports, wherever the statement stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = absolute(path, node)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def absolute(path: Path, node: ast.ImportFrom) -> str:
    """Return the dotted module that a `from ... import` names, relative ones resolved."""
    package = dotted_name(path).split(".")[: None if path.name == "__init__.py" else -1]
    base = package[: len(package) - node.level + 1] if node.level else []
    return ".".join([*base, *([node.module] if node.module else [])])


def room_of(dotted: str) -> str:
    """Return the room of a dotted name: `worker` for `k8sddp.worker.gang`, the empty string outside the package."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "k8sddp" and len(parts) > 1 else ""


def dotted_name(path: Path) -> str:
    """Return the module's name: `k8sddp.spec.model`."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


by_module = pytest.mark.parametrize("path", MODULES, ids=dotted_name)


@by_module
def test_imports_go_down_only(path: Path) -> None:
    """A room imports only the rooms below it."""
    room = room_of(dotted_name(path))
    allowed = ALLOWED.get(room, FOUNDATION if room in FOUNDATION else frozenset()) | {room, "__version__"}
    others = [name for name in imports_of(path) if room_of(name) not in {"", *allowed}]
    assert [name for name in others if room in FOUNDATION or not name.startswith(f"{SHARED}.")] == []


@by_module
def test_the_workers_rooms_import_downwards(path: Path) -> None:
    """The gang decides without net or ranks, net carries without ranks, and the contract needs nobody."""
    room = dotted_name(path).split(".")[2:3]
    if room_of(dotted_name(path)) == "worker" and room and room[0] in WORKER_ROOMS:
        inside = [name.split(".")[2:3] for name in imports_of(path) if name.startswith("k8sddp.worker.")]
        assert sorted({name for (name,) in inside} - {room[0], *WORKER_ROOMS[room[0]]}) == []


@by_module
def test_each_library_has_one_room(path: Path) -> None:
    """kubernetes is imported by cluster alone, click and rich by cli alone."""
    room = room_of(dotted_name(path))
    wrong = [name for name in imports_of(path) if LIBRARIES.get(name.split(".")[0], room) != room]
    assert wrong == []


@by_module
def test_the_core_is_pure(path: Path) -> None:
    """spec, render and plan import nothing that reads a clock, a file system, a network or chance."""
    if room_of(dotted_name(path)) in PURE:
        assert [name for name in imports_of(path) if name.split(".")[0] in IMPURE] == []


@by_module
def test_the_worker_needs_only_the_standard_library(path: Path) -> None:
    """The worker travels alone: nothing but the standard library, and torch inside training processes."""
    if room_of(dotted_name(path)) == "worker":
        inside_a_rank = {one.stem for one in (PACKAGE / "worker" / "instrument").glob("*.py")}  # by their bare names
        roots = {name.split(".")[0] for name in imports_of(path)}
        assert sorted(roots - sys.stdlib_module_names - {"k8sddp", "torch"} - inside_a_rank) == []


@by_module
def test_the_worker_is_python_3_9(path: Path) -> None:
    """Every file that goes into a pod parses as Python 3.9."""
    if room_of(dotted_name(path)) == "worker" or path == PACKAGE / "__init__.py":
        ast.parse(path.read_text(), feature_version=(3, 9))


@by_module
def test_modules_are_short_and_say_why_they_exist(path: Path) -> None:
    """A module has at most 400 lines, one of the worker 300, and opens with its reason."""
    longest = 300 if room_of(dotted_name(path)) == "worker" else 400
    assert len(path.read_text().splitlines()) <= longest
    assert ast.get_docstring(ast.parse(path.read_text()))


@by_module
def test_functions_fit_a_screen(path: Path) -> None:
    """A function has at most 50 lines besides its docstring."""
    long = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            documented = len(ast.get_docstring(node, clean=False).splitlines()) if ast.get_docstring(node) else 0
            if (node.end_lineno or 0) - node.lineno + 1 - documented > 50:
                long.append(node.name)
    assert long == []


def test_modules_import_each_other_in_no_circle() -> None:
    """No chain of module-level imports leads back to its start."""
    names = {dotted_name(path) for path in MODULES}
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        found = set()
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom):
                module = absolute(path, node)
                found |= {name if (name := f"{module}.{alias.name}") in names else module for alias in node.names}
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
        graph[dotted_name(path)] = (found & names) - {dotted_name(path)}
    while leaves := [name for name, targets in graph.items() if not targets & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert sorted(graph) == []


@pytest.mark.parametrize("library", ["kubernetes", "torch", "pydantic", "yaml", "jinja2", "rich", "zipfile"])
def test_the_command_line_starts_without(library: str) -> None:
    """`k8sddp --help`, which reads the module of every command, loads none of the heavy libraries."""
    code = f"import sys; from k8sddp.cli import app; sys.exit(app.main(['--help']) or {library!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
