"""The user's own code that a configuration names: where it lies, and the digest of its sources.

`module:function` is imported and run. What it is follows from the source files of the module and of
all that it imports and that is not installed: those beside it. They are found and read here, and
nothing is imported. Code that is reached in other ways, by a computed name or a path, is not seen.
Of what was defined in a session (a notebook, say) the source is what Python still knows of it.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import invalidate_caches
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from fnl.config import Config
from fnl.config.kinds import OWN
from fnl.import_path import WORKING_DIRECTORY
from fnl.own_packages import is_installed

KEYS = (
    *("data.corpus", "data.partitioner", "run.callbacks"),
    *("model.network", "model.neuron", "model.encoding"),
    *("coordination.selection", "coordination.aggregation", "coordination.algorithm"),
)
"""Keys of the configuration that may name own code."""

DECIDING = tuple(key for key in KEYS if key not in Config.without_effect())
"""Those of them whose code decides what comes out of a run: callbacks only look."""

SESSION = ("__main__", "fnl.api.given")
"""Modules of what was defined in a session, or was given there without being importable."""

_NOTED = "_fnl_source_sha256"
"""What a module's import is given to remember its source by."""


@dataclass(frozen=True)
class OwnCode:
    """Own code, as a configuration names it.

    Attributes:
        names: configuration key -> `module:function`.
        files: module -> its source file; None where none was found.
        sources: module -> its source; empty where none was found.
        digest: SHA-256 of the names and the sources; empty without own code.
    """

    names: Mapping[str, str]
    files: Mapping[str, Path | None]
    sources: Mapping[str, bytes]
    digest: str

    def __bool__(self) -> bool:
        """Return whether there is any."""
        return bool(self.names)

    def record(self) -> dict[str, object] | None:
        """Return the entry `own_code` of `run.json`; None without own code."""
        if not self:
            return None
        return {"names": dict(self.names), "modules": self.digests, "digest": self.digest}

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the source of each module."""
        return {name: _sha256(source) for name, source in sorted(self.sources.items())}


def names_in(flat: Mapping[str, object], keys: Iterable[str] = KEYS) -> dict[str, str]:
    """Return key -> `module:function` of a flat configuration, where it names own code."""
    return {key: str(flat[key]) for key in keys if ":" in str(flat.get(key, ""))}


def own_code_of(config: Config) -> OwnCode:
    """Return the own code that `config` names."""
    return find_own_code(names_in(config.flat()))


def find_own_code(names: Mapping[str, str]) -> OwnCode:
    """Return the code of these names (key -> `module:function`), as `fnl.import_path` finds it."""
    invalidate_caches()  # a file may have been written a moment ago
    files: dict[str, Path | None] = {}
    defined: dict[str, bytes] = {}
    for name in ",".join(names.values()).split(","):  # a key may take several
        if OWN.match(name.strip()):
            module, _, function = name.strip().partition(":")
            if module in SESSION:
                _collect_session(module, function, files, defined)
            else:
                _collect(module, files, named=True)
    sources = {module: _bytes(file) for module, file in files.items()} | defined
    digest = hashlib.sha256()
    for part in (f"{key}={name}" for key, name in sorted(names.items())):
        digest.update(part.encode() + b"\0")
    for module, source in sorted(sources.items()):
        digest.update(f"{module} {len(source)}".encode() + b"\0" + source)
    return OwnCode(names, files, sources, digest.hexdigest() if names else "")


def edited_since_import(code: OwnCode) -> list[str]:
    """Return files whose module this process has imported and which are others since.

    A module is noted when it is looked at here for the first time, and anew when it is reloaded.
    """
    edited = []
    for module, digest in code.digests.items():
        spec: Any = getattr(sys.modules.get(module), "__spec__", None)
        if spec is not None and (file := code.files.get(module)) is not None:
            noted = vars(spec).setdefault(_NOTED, digest)
            edited += [str(file)] if noted != digest else []
    return edited


def _collect_session(
    module: str, name: str, files: dict[str, Path | None], defined: dict[str, bytes]
) -> None:
    """Add the file that defined something in this session, else its own source alone."""
    thing = getattr(sys.modules.get(module), name, None)
    thing = getattr(thing, "rule", thing)  # of a rule that declares what it reads
    home = getattr(thing, "__module__", None)
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if home == "__main__" and script:
        files[home] = Path(script)
        for imported in _imports(home, _bytes(files[home]), is_package=False):
            _collect(imported, files, named=False)
    elif isinstance(home, str) and home not in SESSION and _find(home):
        _collect(home, files, named=True)
    else:
        try:
            defined[f"{module}.{name}"] = inspect.getsource(thing).encode()  # pyright: ignore[reportArgumentType] what has none raises
        except (OSError, TypeError):
            defined[f"{module}.{name}"] = b""


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
    path: list[str] | None = [*sys.path, os.environ.get(WORKING_DIRECTORY, ""), str(Path.cwd())]
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


def _sha256(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()
