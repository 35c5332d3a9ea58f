"""Own modules are compiled from their sources, whatever bytecode lies beside them.

Python takes `__pycache__/rules.cpython-313.pyc` for `rules.py` if the time and the size that it
names are those of the source, or at once if it says that nobody need check. Whoever made a folder
chooses all three. What a user has looked at, and what its digest is of, is the source.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from fnl.own_packages import is_installed


class FromSource:
    """Finds modules as Python does, and lets those that are not installed load from source."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or type(spec.loader) is not SourceFileLoader:
            return None
        if spec.origin is None or is_installed(Path(spec.origin)):
            return None
        spec.loader = _SourceLoader(spec.loader.name, spec.loader.path)
        spec.cached = None
        return spec


class _SourceLoader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def load_from_source() -> None:
    """Let this process load own modules so from now on."""
    if FromSource not in sys.meta_path:
        place = sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else 0
        sys.meta_path.insert(place, FromSource)  # type: ignore[arg-type]  # typeshed wants find_spec bound
