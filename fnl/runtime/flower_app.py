"""The folder that `flwr run` is given: a checkout, or one made of the installed packages."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import fnl
from fnl.config import Config
from fnl.errors import RunError

PACKAGES = ("fnl", "clients", "server", "experiments")
SERVER, CLIENT = "server.app:app", "clients.app:app"
"""The apps of the project, by name: this room imports neither side."""
_TRAVELS = ("*.py", "*.toml", "*.json")


def check_app(app: Path) -> None:
    """Raise `RunError` unless `app` is the folder of this Flower app's pyproject.toml."""
    server = _server_of(app)
    if server is None:
        raise RunError(
            f"{app} holds no Flower app: give --app the folder of fnl's pyproject.toml, or leave "
            "it out to run what is installed"
        )
    if server != SERVER:
        raise RunError(f"{app} holds another Flower app: {server}")


def app_here(folder: Path) -> Path | None:
    """Return `folder` if this app's pyproject.toml is in it: a checkout; else None."""
    return folder.absolute() if _server_of(folder) == SERVER else None


@contextmanager
def installed_app() -> Iterator[Path]:
    """Make this app's folder of the packages that are imported, for as long as it is used.

    Raises:
        RunError: if a package is not installed as files.
    """
    with TemporaryDirectory(prefix="fnl-app-") as made:
        folder = Path(made)
        (folder / "pyproject.toml").write_text(_pyproject(), encoding="utf-8")
        for package in PACKAGES:
            spec = find_spec(package)
            if spec is None or not spec.submodule_search_locations:
                raise RunError(f"the package {package} is not there: install fnl again")
            for source in spec.submodule_search_locations:
                shutil.copytree(source, folder / package, ignore=_left, dirs_exist_ok=True)
        yield folder


def _left(folder: str, names: list[str]) -> set[str]:
    """Return what does not travel: whatever is neither code nor a grid, recipe or public start."""
    here = Path(folder)
    travels = {path.name for pattern in _TRAVELS for path in here.glob(pattern)}
    travels |= {name for name in names if (here / name).is_dir() and name != "__pycache__"}
    return set(names) - travels


def _pyproject() -> str:
    lines = [
        "[project]",
        'name = "fnl"',
        f"version = {json.dumps(fnl.__version__)}",
        'description = "The installed fnl as a Flower app"',
        'license = "Apache-2.0"',
        "dependencies = []",
        "[tool.flwr.app]",
        'publisher = "fnl"',
        f"fab-include = {json.dumps([f'**/{pattern}' for pattern in _TRAVELS])}",
        "[tool.flwr.app.components]",
        f"serverapp = {json.dumps(SERVER)}",
        f"clientapp = {json.dumps(CLIENT)}",
    ]
    group = ""
    for key, value in Config().flat().items():
        if group != (group := key.split(".")[0]):
            lines.append(f"[tool.flwr.app.config.{group}]")
        lines.append(f"{key.split('.', 1)[1]} = {json.dumps(value)}")
    return "\n".join(lines) + "\n"


def _server_of(app: Path) -> str | None:
    """Return the ServerApp that a folder's pyproject.toml names; None if there is none."""
    try:
        content = tomllib.loads((app / "pyproject.toml").read_text(encoding="utf-8"))
        return str(content["tool"]["flwr"]["app"]["components"]["serverapp"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
