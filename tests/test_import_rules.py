"""Which room may import which: the rules of docs/architecture.md, read off the source."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("fnl", "clients", "server", "experiments", "benchmarks")

FORBIDDEN = {
    "fnl": {"clients", "server", "experiments", "benchmarks"},
    "fnl/cli": {"clients", "server"},
    "fnl/api": {"clients"},
    "clients": {"server", "experiments", "benchmarks"},
    "server": {"clients", "experiments", "benchmarks"},
    "experiments": {"clients", "server", "benchmarks"},
}
"""Room -> top-level packages that its files may not import, inside functions neither."""

APPS = {"clients.app", "server.app"}
"""What a grid's worker starts in its own process; engines start them by the names in `NAMES`."""
NAMES = "fnl/runtime/flower_app.py"

PURE = {
    "fnl/metrics": {"flwr", "fnl.runtime", "fnl.wire"},
    "fnl/wire": {"fnl.runtime", "fnl.snn", "fnl.training", "fnl.audit", "fnl.privacy", "fnl.data"},
    "fnl/fidelity": {"torch", "flwr", "fnl.runtime", "fnl.training", "fnl.audit"},
    "fnl/audit": {"fnl.cli", "fnl.planning"},
    "fnl/privacy": {"flwr", "fnl.runtime", "fnl.training", "fnl.snn", "fnl.audit"},
    "fnl/training": {"flwr", "fnl.runtime", "fnl.audit", "fnl.cli"},
    "fnl/snn": {"flwr", "opacus", "fnl.runtime", "fnl.training", "fnl.audit", "fnl.privacy"},
    "fnl/data": {"fnl.runtime.run_directory", "fnl.training", "fnl.audit", "fnl.privacy"},
    "fnl/config": {"torch", "flwr", "opacus", "fnl.snn", "fnl.runtime", "fnl.training"},
}
"""Room -> modules, with all below them, that its files may not import."""


def imported(path: Path, source: str) -> set[str]:
    """Return the dotted names of all modules that `source` imports or names, wherever it does.

    A string that names a module of another top-level package counts: it is loaded when needed.
    """
    names: set[str] = set()
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = re.fullmatch(r"(\w+)((?:\.\w+)+)(?::\w+)?", node.value)
            if named and named[1] in {*ROOMS} - {package[0]}:
                module = named[1] + named[2]
                there = (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()
                apps = APPS if path == ROOT / NAMES else set()
                names |= {module} - apps if there else set()
    return names


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    if parts == ("fnl", "__init__.py"):
        return "fnl/api"  # its names, loaded when they are used
    return "/".join(parts[:2]) if parts[:2] in (("fnl", "cli"), ("fnl", "api")) else parts[0]


def broken(path: Path, source: str) -> list[str]:
    """Return what a file at `path` imports although its room may not."""
    relative = path.relative_to(ROOT).as_posix()
    tops = FORBIDDEN.get(room_of(path), set())
    below = {
        name for room, names in PURE.items() if relative.startswith(f"{room}/") for name in names
    }
    apps = APPS if room_of(path) == "experiments" else set()
    return sorted(
        name
        for name in imported(path, source)
        if (name.split(".")[0] in tops and name not in apps)
        or any(name == b or name.startswith(f"{b}.") for b in below)
    )


@pytest.mark.parametrize("room", ROOMS)
def test_no_file_imports_what_its_room_may_not(room: str) -> None:
    files = list((ROOT / room).rglob("*.py"))
    assert files
    found = {str(path.relative_to(ROOT)): broken(path, path.read_text()) for path in files}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("fnl/weights.py", "import server.app"),
        ("fnl/runtime/flower.py", "def f():\n    from experiments.grid import cells"),
        ("clients/app.py", "from server import strategy"),
        ("server/app.py", "import clients"),
        ("experiments/recipe.py", "from server.strategy import RateStrategy"),
        ("fnl/cli/run.py", "from clients.app import app"),
        ("fnl/metrics/memory.py", "from fnl.runtime.memory import peak"),
        ("fnl/privacy/ledger.py", "from fnl import training"),
        ("fnl/runtime/flower.py", 'import_module("server.strategy")'),
        ("fnl/runtime/flower.py", "import server.app"),
        ("fnl/runtime/flower_app.py", "import server.app"),
        ("fnl/data/store.py", 'HOMES = {"experiments.grid.driver": "run_grid"}'),
        ("fnl/cli/run.py", 'APP = "clients.app:app"'),
        ("server/replies/vetting.py", "from ...clients import app"),
        ("fnl/privacy/ledger.py", "from ..training import plan"),
        ("fnl/privacy/ledger.py", "from .. import training"),
    ],
)
def test_a_rule_that_is_broken_is_seen(path: str, source: str) -> None:
    assert broken(ROOT / path, source)
