"""Processes that compute for this one, and do not run the user's script again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def without_script() -> Iterator[None]:
    """Let processes that are started here import what they need, and not the main module.

    `multiprocessing` imports the script of its parent in each child. One without
    `if __name__ == "__main__":` would run there again, and wait for the locks of its parent.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script
