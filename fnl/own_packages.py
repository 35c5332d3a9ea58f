"""This project's packages are found beside each other, whatever else has their names.

`clients`, `server` and `experiments` are names that a file in somebody's working directory may
have too, and Python looks there first in many of the processes that computing needs.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Sequence
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

NAMES = frozenset({"fnl", "clients", "server", "experiments", "benchmarks"})
ROOT = str(Path(__file__).resolve().parents[1])


class OwnPackages:
    """Finds the packages of `NAMES` in `ROOT`, before anything else is asked."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        del path  # these are top-level names
        return PathFinder.find_spec(name, [ROOT], target) if name in NAMES else None


def put_first() -> None:
    """Let this process find them so from now on."""
    if OwnPackages not in sys.meta_path:
        sys.meta_path.insert(0, OwnPackages)


def is_installed(file: Path) -> bool:
    """Return whether a module's file is Python's, an installed package's or of this project."""
    resolved = file.resolve()
    return any(resolved.is_relative_to(folder) for folder in _installed())


@cache
def _installed() -> tuple[Path, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = [Path(sysconfig.get_paths()[name]) for name in names]
    folders += [Path(ROOT) / name for name in NAMES]
    return tuple(folder.resolve() for folder in folders)
