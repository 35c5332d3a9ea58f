"""Processes that compute for this one, and do not run the user's script again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import spawn
from threading import Lock
from typing import Any

_lock = Lock()
_inside = 0
_preparation: Callable[..., dict[str, Any]] = spawn.get_preparation_data


@contextmanager
def without_script() -> Iterator[None]:
    """Let processes that are started here import what they need, and not the main module.

    `multiprocessing` imports the script of its parent in each child. One without
    `if __name__ == "__main__":` would run there again, and wait for the locks of its parent.
    """
    global _inside  # noqa: PLW0603 - threads may be inside together
    try:
        with _lock:
            _inside += 1
            spawn.get_preparation_data = _without_main
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                spawn.get_preparation_data = _preparation


def _without_main(*arguments: Any) -> dict[str, Any]:
    """Return what a child is told of its parent, less what the parent's main module is."""
    told = _preparation(*arguments)
    return {key: value for key, value in told.items() if not key.startswith("init_main")}
