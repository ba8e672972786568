"""The layers only import downwards, optional packages are never imported at module level, and import stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "vamo_bbo"

# A module may import from its own layer's earlier lines and from any line above; siblings on one line do not import
# each other unless the line says so.
LAYERS = [
    ("_blas", "_errors", "_typing"),
    ("backends",),
    ("constraints",),
    ("feasible",),
    ("core",),
    ("schedules", "curvature"),
    ("estimators", "rules", "sketch", "kronecker", "step_sizes"),
    ("first_order",),
    ("recipes", "gradient_tables", "untuned", "value_tables"),
    ("whole_sum",),
    ("space", "problem"),
    ("solvers", "testing"),
]
"""Bottom up. ``run`` may use core, backends, problem and space, but never what composes algorithms."""

PARTS = {"estimators", "first_order", "recipes", "rules", "schedules", "solvers"}
STANDARD = {"numpy", "scipy", "numba", "llvmlite"}  # llvmlite comes with numba


def modules():
    return sorted(p for p in PACKAGE.rglob("*.py"))


def unit(path: Path) -> str:
    """Return the top-level part of the package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, *, top_level: bool) -> list[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else ast.walk(tree)
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import; write the full name"
            found += [f"{node.module}.{a.name}" if node.module == "vamo_bbo" else str(node.module) for a in node.names]
    return found


def inside(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "vamo_bbo" and len(parts) > 1 else None


def rank(name: str) -> int | None:
    return next((k for k, line in enumerate(LAYERS) if name in line), None)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_lower_layers(path):
    own = unit(path)
    for name in imports(path, top_level=False):
        target = inside(name)
        if target is None or target == own:
            continue
        if rank(own) is not None:
            assert rank(target) is not None, f"{path.name} ({own}) must not import {name}: it stands above"
            assert rank(target) <= rank(own), f"{path.name} ({own}) must not import {name}: it stands above"
        if own == "run":
            assert target not in PARTS, f"{path.name}: the run layer knows nothing about algorithms, yet imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_optional_packages_are_imported_lazily(path):
    for name in imports(path, top_level=True):
        first = name.split(".")[0]
        allowed = first in sys.stdlib_module_names or first in STANDARD | {"vamo_bbo", "__future__"}
        assert allowed or path.parts[-2] == "integrations", f"{path.name} imports {name} at module level"


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").glob("*.py")), ids=lambda p: p.name)
def test_the_core_is_sans_io(path):
    banned = {
        "threading",
        "multiprocessing",
        "concurrent",
        "asyncio",
        "time",
        "datetime",
        "random",
        "numba",
        "cupy",
        "os",
    }
    for name in imports(path, top_level=False):
        assert name.split(".")[0] not in banned, f"core/{path.name} imports {name}"
    calls = {
        n.func.id
        for n in ast.walk(ast.parse(path.read_text()))
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    }
    assert not calls & {"open", "print", "input"}, f"core/{path.name} does input or output"


def test_no_module_draws_from_a_global_generator():
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in (
                "np.random.seed",
                "np.random.rand",
                "np.random.randn",
            ):
                pytest.fail(f"{path.name} uses {ast.unparse(node)}")


def test_import_loads_no_compiler_plotter_or_framework():
    code = "import sys, vamo_bbo; print(sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("numba", "cupy", "matplotlib", "sklearn", "torch", "pandas", "cmaes", "sqlite3", "multiprocessing"):
        assert f"'{heavy}'" not in loaded, f"import vamo_bbo imports {heavy}"
