"""What libraries import for work that nobody does here is left until somebody does such work.

Opacus loads PyTorch's distributed tensors and, for accountants of other kinds, SciPy's statistics
and signals; PyTorch's optimizers load its compiler when the first one is built. Each takes as long
as a round of a small federation, and no client uses any.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch

_LEFT = {
    "torch.distributed.tensor": ("DTensor", "torch.distributed.tensor"),
    "torch.distributed._tensor": ("", ""),
    "torch.distributed._tensor.experimental": (
        "implicit_replication",
        "torch.distributed._tensor.experimental",
    ),
    "torch.distributed._composable.fsdp": ("FSDPModule", "torch.distributed.fsdp"),
    "scipy.stats": ("norm", "scipy.stats"),
    "scipy.signal": ("convolve", "scipy.signal"),
    "scipy.fft": ("irfft rfft", "scipy.fft"),
    "scipy.optimize": ("root_scalar", "scipy.optimize"),
    "scipy.integrate": ("quad", "scipy.integrate"),
}
"""Modules that Opacus' modules import at their top -> the names taken from each, and their home."""
_FOUND_WHEN_NAMED = ("tensor", "fsdp")


class _Later(type):
    """The class of a name that stands for one of a module that is not loaded yet."""

    home: str

    def __call__(cls, *args: Any, **options: Any) -> Any:
        return getattr(import_module(cls.home), cls.__name__)(*args, **options)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(getattr(import_module(cls.home), cls.__name__), name)

    def __instancecheck__(cls, thing: object) -> bool:
        home = sys.modules.get(cls.home)  # before it is loaded nothing is one of its things
        return home is not None and isinstance(thing, getattr(home, cls.__name__))


def import_opacus() -> None:
    """Import Opacus without what it leaves.

    Afterwards all behave as ever: what Opacus took, and what it finds below `torch.distributed`, is
    loaded when it is used.
    """
    if "opacus" in sys.modules:
        return
    with _stand_ins():
        import_module("opacus")
    torch.distributed.__dict__.setdefault("__getattr__", _submodule)


class _Compiler(ModuleType):
    """Stands for `torch._dynamo` until more is asked of it than to leave plain code alone."""

    @staticmethod
    def graph_break(*_: Any, **__: Any) -> None:
        """Do nothing: before the compiler is loaded nothing is being compiled."""

    def disable(self, function: Any = None, *arguments: Any, **options: Any) -> Any:
        """Return `function` to PyTorch itself, which asks so: nobody compiles it.

        Whoever else asks has the compiler do it.
        """
        if function is not None and options.get("wrapping") is False:
            return function
        return self.__getattr__("disable")(function, *arguments, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # what looks at all modules asks for those
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def leave_compiler() -> None:
    """Have PyTorch's optimizers not load its compiler in order to be left alone by it.

    They import it when they are built and whenever they step. Whoever compiles gets the real one.
    """
    if "torch._dynamo" not in sys.modules:
        stand_in = _Compiler("torch._dynamo")
        stand_in.__spec__ = find_spec("torch._dynamo")
        sys.modules["torch._dynamo"] = stand_in
        torch.__dict__["_dynamo"] = stand_in  # else each step looks for it twice


def _submodule(name: str) -> ModuleType:
    if name in _FOUND_WHEN_NAMED:
        return import_module(f"torch.distributed.{name}")
    raise AttributeError(f"module 'torch.distributed' has no attribute {name!r}")


@contextmanager
def _stand_ins() -> Iterator[None]:
    placed: dict[str, ModuleType] = {}
    for module, (names, home) in _LEFT.items():
        if module not in sys.modules:
            placed[module] = ModuleType(module)
            for name in names.split():
                setattr(placed[module], name, _Later(name, (), {"home": home}))
    sys.modules.update(placed)
    try:
        yield
    finally:
        for module in placed:
            del sys.modules[module]


import_opacus()
leave_compiler()
