"""The user's own code that a configuration names: where it lies, and the digest of its sources.

`module:function` is imported and run. What it is follows from the source files of the module and of
all that it imports and that is not installed: those beside it. They are found and read here, and
nothing is imported. Code that is reached in other ways, by a computed name or a path, is not seen.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from fnl.config import Config
from fnl.config.kinds import OWN
from fnl.own_packages import is_installed

KEYS = (
    *("data.corpus", "data.partitioner", "run.callbacks"),
    *("model.network", "model.neuron", "model.encoding"),
    *("coordination.selection", "coordination.aggregation"),
)
"""Keys of the configuration that may name own code."""


@dataclass(frozen=True)
class OwnCode:
    """Own code, as a configuration names it.

    Attributes:
        names: configuration key -> `module:function`.
        files: module -> its source file; None where none was found.
        digest: SHA-256 of the names and the sources; empty without own code.
    """

    names: Mapping[str, str]
    files: Mapping[str, Path | None]
    digest: str

    def __bool__(self) -> bool:
        """Return whether there is any."""
        return bool(self.names)

    def record(self) -> dict[str, object] | None:
        """Return the entry `own_code` of `run.json`; None without own code."""
        if not self:
            return None
        return {"names": dict(self.names), "modules": sorted(self.files), "digest": self.digest}


def own_code_of(config: Config) -> OwnCode:
    """Return the own code that `config` names, found as `fnl.import_path` finds it."""
    flat = config.flat()
    names = {key: str(flat[key]) for key in KEYS if ":" in str(flat[key])}
    files: dict[str, Path | None] = {}
    for name in ",".join(names.values()).split(","):  # a key may take several
        if OWN.match(name.strip()):
            _collect(name.strip().partition(":")[0], files, named=True)
    digest = hashlib.sha256()
    for part in (f"{key}={name}" for key, name in sorted(names.items())):
        digest.update(part.encode() + b"\0")
    for module, file in sorted(files.items()):
        source = _bytes(file)
        digest.update(f"{module} {len(source)}".encode() + b"\0" + source)
    return OwnCode(names, files, digest.hexdigest() if names else "")


def _collect(module: str, files: dict[str, Path | None], *, named: bool) -> None:
    """Add `module`, the packages it is in, and what they import, unless it is installed.

    What a configuration names is added wherever it is.
    """
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        if name in files:
            continue
        spec = _find(name)
        file = Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None
        is_last = named and depth == len(parts)
        if not is_last and (file is None or is_installed(file)):
            continue
        files[name] = file
        if file is not None and not is_installed(file):
            is_package = file.name == "__init__.py"
            for imported in _imports(name, _bytes(file), is_package=is_package):
                _collect(imported, files, named=False)


def _find(name: str) -> ModuleSpec | None:
    """Return where a module lies; unlike `importlib.util.find_spec` it runs no package's code."""
    path: list[str] | None = [*sys.path, str(Path.cwd())]
    spec = None
    walked = ""
    for part in name.split("."):
        walked = f"{walked}.{part}" if walked else part
        spec = PathFinder.find_spec(walked, path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or [])
    return spec


def _imports(module: str, source: bytes, *, is_package: bool) -> Iterator[str]:
    """Yield the names of all that a source imports, in functions, too; some may be no modules."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)
            else:
                yield from (alias.name for alias in node.names)


def _bytes(file: Path | None) -> bytes:
    try:
        return file.read_bytes() if file is not None else b""
    except OSError:
        return b""
