"""Where compiled kernels are kept, so that they are compiled once a machine.

Numba keys its cache by the folder of the source file. Flower unpacks an app into a new folder for
every version of it, so each unpacked copy would compile again in every worker. Here the key is
the *content* of the kernel sources instead, in one folder of the user:
`$NUMBA_CACHE_DIR` if set, else `$FNL_CACHE_DIR/numba`, else `~/.cache/fnl/numba`. (Numba itself
adds the processor, its own version and the argument types to the key.)
"""

from __future__ import annotations

import hashlib
import inspect
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core import config


def cache_folder() -> Path:
    """Return the folder under which compiled kernels are kept."""
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(chosen)
    if root := os.environ.get("FNL_CACHE_DIR"):
        return Path(root) / "numba"
    return Path.home() / ".cache" / "fnl" / "numba"


@cache
def _sources_digest(folder: Path) -> str:
    """Return a digest of every Python source in `folder`: kernels may call one another."""
    digest = hashlib.sha256()
    for source in sorted(folder.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()


class ContentLocator:
    """Numba cache locator (see `numba.core.caching`) keyed by the kernels' sources."""

    def __init__(self, function: Callable[..., Any], source: str) -> None:
        self._digest = _sources_digest(Path(source).resolve().parent)
        self._line = function.__code__.co_firstlineno
        self._path = cache_folder() / self._digest[:16]

    @classmethod
    def from_function(cls, function: Callable[..., Any], source: str) -> ContentLocator | None:
        """Return the locator of `function`, or None where nothing can be written."""
        try:
            locator = cls(function, source)
            locator.ensure_cache_path()
        except (OSError, RuntimeError):  # RuntimeError: the user has no home folder
            return None
        return locator

    def ensure_cache_path(self) -> None:
        """Create the folder, and fail with OSError if it cannot be written to."""
        self._path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=self._path).close()

    def get_cache_path(self) -> str:
        """Return the folder of this function's cache files."""
        return str(self._path)

    def get_source_stamp(self) -> str:
        """Return what must be unchanged for a cached kernel to be used."""
        return self._digest

    def get_disambiguator(self) -> str:
        """Return what tells functions of one name in one file apart."""
        return str(self._line)


@contextmanager
def _content_locator() -> Iterator[None]:
    """Let Numba find its cache through `ContentLocator`, for the functions decorated inside.

    This is the setting behind `NUMBA_CACHE_LOCATOR_CLASSES`; a Numba that does not have it yet
    caches beside the source, which is slower to start but right.
    """
    name = "CACHE_LOCATOR_CLASSES"
    before = getattr(config, name, "")
    setattr(config, name, f"{ContentLocator.__module__}.{ContentLocator.__qualname__}")
    try:
        yield
    finally:
        setattr(config, name, before)


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` on its first call, cached, without the interpreter lock.

    No `fastmath`: contracting a multiplication and an addition changes spikes. Division by zero
    follows IEEE 754 (`error_model`): a check for it would keep loops from vectorising.
    """
    if ContentLocator.from_function(function, inspect.getfile(function)) is None:
        return numba.njit(nogil=True, error_model="numpy")(function)
    with _content_locator():
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
